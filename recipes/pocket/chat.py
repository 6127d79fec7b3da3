"""Chat: the few things Pocket can say without passages, and the many ways people say the things that call for them."""

from __future__ import annotations

import random

from tokens import NO_PASSAGES_ANSWER

GREETINGS = (
    "hello",
    "hi",
    "hey",
    "good morning",
    "good evening",
    "good afternoon",
    "hello there",
    "hi there",
    "hey there",
    "hi pocket",
    "hello pocket",
    "greetings",
    "how are you",
    "how is it going",
    "nice to meet you",
)
GREETING_REPLIES = (
    "Hello! Give me passages and a question, and I will look for the answer.",
    "Hello! I answer questions from passages that are given to me.",
)
IDENTITY = (
    "who are you",
    "what are you",
    "what is your name",
    "are you a robot",
    "are you a person",
    "tell me about yourself",
    "introduce yourself",
    "which model are you",
    "are you an assistant",
    "who am i talking to",
    "what is pocket",
    "what model is this",
)
IDENTITY_REPLIES = ("I am Pocket, a very small language model that answers from given passages.",)
ABILITY = (
    "what can you do",
    "how can you help me",
    "what do you do",
    "help",
    "help me",
    "how do i use you",
    "what are you for",
    "can you help me",
    "what can i ask you",
    "how do you work",
    "what should i ask",
    "what do you know",
)
ABILITY_REPLIES = (
    "I can find the sentence in your passages that answers your question, or say that I do not know.",
)
THANKS = (
    "thanks",
    "thank you",
    "thank you very much",
    "many thanks",
    "great, thanks",
    "ok thanks",
    "cheers",
    "thanks a lot",
    "that was helpful",
    "perfect, thank you",
)
THANKS_REPLIES = ("You are welcome.",)
FAREWELL = ("bye", "goodbye", "see you", "good night", "see you later", "have a nice day")
FAREWELL_REPLIES = ("Goodbye.",)
OTHER = (
    "write a poem about the sea",
    "translate this into french",
    "what is the capital of peru",
    "tell me a joke",
    "write some code",
    "how tall is the moon",
    "solve this equation",
    "what is two plus two",
    "sing a song",
    "what is the weather today",
    "who won the game",
    "give me a recipe",
    "summarise the news",
    "what time is it",
    "explain how engines work",
    "write a letter to my landlord",
    "who wrote this book",
    "plan my holiday",
)
PAIRS = (
    (GREETINGS, GREETING_REPLIES),
    (IDENTITY, IDENTITY_REPLIES),
    (ABILITY, ABILITY_REPLIES),
    (THANKS, THANKS_REPLIES),
    (FAREWELL, FAREWELL_REPLIES),
)


def sample_turn(rng: random.Random, question: str) -> tuple[str, str]:
    """One exchange; `question` is any corpus question, used where a question without passages is wanted."""
    if rng.random() < 0.4:
        text = question if rng.random() < 0.6 else rng.choice(OTHER)
        return _vary(text, rng) if rng.random() < 0.5 else text, NO_PASSAGES_ANSWER
    said, replies = rng.choice(PAIRS)
    return _vary(rng.choice(said), rng), replies[rng.randrange(len(replies))]


def _vary(text: str, rng: random.Random) -> str:
    text = text.capitalize() if rng.random() < 0.6 else text
    return text if text.endswith("?") else text + rng.choice(("", "", "!", ".", "?"))
