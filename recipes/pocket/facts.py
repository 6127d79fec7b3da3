"""Facts: small grammars that make a plain statement and a question that only this statement answers.

Each call draws different subjects, so that no two facts of one context answer the same question; that also makes the
questions of facts left out of a context honestly unanswerable.
"""

# ruff: noqa: SIM905 - long word lists read better as text than as rows of quotes
from __future__ import annotations

import random

PLACES = "harbour library station museum bakery market garden clinic school stadium theatre bridge tower castle park mill ferry pool gallery workshop".split()
TOWNS = "Brenton Kelmar Ostley Dunvale Wickford Larne Petrova Halden Marsby Tolvik Ennerby Quillan Rosthorpe Sefton Abbery Calder".split()
PEOPLE = "Mira Tomas Ines Olaf Priya Dario Hanna Kofi Lena Amir Sofia Bram Yuki Elif Marcus Nadia".split()
JOBS = "baker gardener pilot nurse teacher plumber painter farmer tailor driver carpenter librarian fisher dentist mechanic singer".split()
THINGS = "kettle lantern bicycle jacket telescope drum ladder carpet piano camera basket clock helmet mirror wallet umbrella tent shovel".split()
MATERIALS = "copper oak wool glass leather steel linen clay silver bamboo cotton rubber marble cork".split()
COLOURS = "red blue green yellow purple orange white black brown grey pink golden".split()
ANIMALS = "otter heron badger salmon beetle goat falcon tortoise rabbit lizard crane hedgehog moth seal fox donkey".split()
FOODS = "berries seeds grass fish insects roots leaves nuts worms apples clover mushrooms".split()
TREATS = (
    "soup bread rice lentils porridge pancakes stew salad noodles cheese yoghurt beans dumplings pie".split()
)
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
NUMBERS = "two three four five six seven eight nine ten twelve fifteen twenty thirty forty fifty".split()
PROBLEMS = "headache cough rash cramp blister toothache earache fever sunburn hiccups backache nausea".split()
REMEDIES = "rest,cold water,gentle massage,a warm compress,fresh air,more fluids,light stretching,a cool cloth,early nights,loose clothes".split(
    ","
)
REASONS = "the roof was leaking,the old owner had retired,visitors had asked for it,the river had flooded,prices had fallen,the engine made too much noise,the winter was mild,the floor had become slippery".split(
    ","
)

# Each grammar: a subject list, statement forms, question forms. {s} is the subject, {a} and {b} are drawn values.
GRAMMARS: tuple[tuple[list[str], tuple[list[str], list[str]], tuple[str, ...], tuple[str, ...]], ...] = (
    (PLACES, (NUMBERS, DAYS), ("The {s} opens at {a} on {b}.", "On {b} the {s} opens its doors at {a}."), ("When does the {s} open?", "At what time does the {s} start its day?", "What are the opening hours of the {s}?")),
    (PLACES, (TOWNS, NUMBERS), ("The {s} stands in {a}, about {b} kilometres from the coast.", "Visitors find the {s} in {a}, {b} minutes from the centre."), ("Where is the {s}?", "In which town can the {s} be found?", "Where does the {s} stand?")),
    (PLACES, (MONTHS, REASONS), ("The {s} closed in {a} because {b}.", "Because {b}, the {s} was closed in {a}."), ("Why did the {s} close?", "What was the reason for closing the {s}?", "Why was the {s} shut?")),
    (PEOPLE, (JOBS, TOWNS), ("{s} works as a {a} in {b}.", "{s} has been a {a} in {b} for years."), ("What is the job of {s}?", "What work does {s} do?", "Where does {s} work?")),
    (PEOPLE, (TREATS, DAYS), ("{s} cooks {a} every {b}.", "Every {b} {s} prepares {a} for the family."), ("What does {s} cook?", "Which dish does {s} prepare?", "What does {s} make for dinner?")),
    (THINGS, (MATERIALS, COLOURS), ("The {s} is made of {a} and painted {b}.", "A coat of {b} paint covers the {s} of {a}."), ("What is the {s} made of?", "Which material is the {s} made from?", "What colour is the {s}?")),
    (THINGS, (NUMBERS, PEOPLE), ("The {s} cost {b} {a} coins.", "{b} paid {a} coins for the {s}."), ("How much did the {s} cost?", "What was the price of the {s}?", "Who paid for the {s}?")),
    (ANIMALS, (FOODS, NUMBERS), ("The {s} eats mostly {a} and lives for about {b} years.", "A wild {s} feeds on {a} during its {b} years of life."), ("What does the {s} eat?", "What is the food of the {s}?", "How long does a {s} live?")),
    (PROBLEMS, (REMEDIES, NUMBERS), ("A {s} often eases after {a} and {b} minutes of quiet.", "For a {s}, {a} for {b} minutes usually brings relief."), ("What helps with a {s}?", "How can I ease a {s}?", "What should I do about a {s}?")),
    (TREATS, (NUMBERS, NUMBERS), ("The {s} should simmer for {a} minutes and serves {b} people.", "Cook the {s} for {a} minutes to feed {b} guests."), ("How long should the {s} cook?", "How many people does the {s} serve?", "For how many minutes do I cook the {s}?")),
    (JOBS, (NUMBERS, REASONS), ("The {s} works {a} hours a day because {b}.", "Since {b}, the {s} works for {a} hours."), ("How many hours does the {s} work?", "Why does the {s} work so long?", "How long is the day of the {s}?")),
    (TOWNS, (NUMBERS, MONTHS), ("{s} holds its fair in {b} with {a} stalls.", "Every {b} the people of {s} set up {a} stalls for the fair."), ("When is the fair of {s}?", "In which month does {s} hold its fair?", "How many stalls are at the fair in {s}?")),
)  # fmt: skip


def make_facts(n: int, rng: random.Random) -> list[tuple[str, str]]:
    """`n` statements, each with a question; a subject of one grammar is used at most once."""
    used: set[str] = set()
    out: list[tuple[str, str]] = []
    theme = rng.sample(range(len(GRAMMARS)), min(len(GRAMMARS), rng.randint(2, 6)))
    while len(out) < n:
        subjects, (first, second), statements, questions = GRAMMARS[rng.choice(theme)]
        subject = rng.choice(subjects)
        if subject in used:
            theme = list(range(len(GRAMMARS)))
            continue
        used.add(subject)
        values = {"s": subject, "a": rng.choice(first), "b": rng.choice(second)}
        statement = rng.choice(statements).format(**values)
        out.append((statement[0].upper() + statement[1:], rng.choice(questions).format(**values)))
    return out
