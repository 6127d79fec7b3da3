"""Data: makes endless rows from the corpus, from invented drills, from fact grammars and from small talk.

A batch is a pure function of (recipe, corpus, step), so a resumed run sees the same data as an unbroken one. It knows
nothing about the model. Its one surprise: natural rows are often *reworded*, each chosen word stem replaced by another
word in the sentences and questions alike, so that matching is learnt and not the vocabulary of a small corpus.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from chat import sample_turn
from corpus import Text
from facts import make_facts
from questions import ask_about, soften
from rows import Asked, Batch, Row, chat_row, grounded_row, stack_rows
from tokens import Coder
from words import coin_word, inflect, is_content, split_pieces, split_stem, stem_of

SYSTEM_LINES = (
    "Answer from the numbered passages only.",
    "You are Pocket, a small assistant that answers from given passages.",
    "Answer with the sentence that holds the answer.",
)
N_SOUP_FILLERS = 60
SHORT_REPLY = 4  # tokens; enough for the choice and the turn into copying
SMALL_ROW = 6  # sentences; copying is learnt as well, and twice as cheaply, in short contexts
N_MORE_SHORT = 4  # more questions on a row whose replies are cut short


@dataclass(frozen=True, kw_only=True)
class Mix:
    """What rows are drawn at one phase of training."""

    max_sentences: int
    shares: dict[str, float]
    short_share: float = 0.0  # of the rows: only the first tokens of each reply count
    small_share: float = 0.0  # of the other rows: at most SMALL_ROW sentences


class RowMaker:
    """Draws rows; all randomness comes from the generator that each call is given."""

    def __init__(self, coder: Coder, texts: Sequence[Text], n_branches: int) -> None:
        self.coder = coder
        self.texts = [text for text in texts if text.questions]
        self.n_branches = n_branches
        self.blocks = [(t, block) for t, text in enumerate(self.texts) for block in text.sections()]
        counts = Counter(
            piece.strip().lower()
            for t in texts
            for s in t.sentences
            for piece in split_pieces(s)
            if piece.strip().isalpha()
        )
        self.rarity = counts
        self.words = sorted(word for word in counts if is_content(word))
        self.fillers = [w for w, _ in counts.most_common(400) if not is_content(w)][:N_SOUP_FILLERS]

    def draw(self, mix: Mix, rng: random.Random) -> Row:
        """One row of a kind drawn by the shares."""
        kinds = [kind for kind, share in mix.shares.items() if share > 0]
        kind = rng.choices(kinds, [mix.shares[k] for k in kinds])[0]
        if kind == "chat":
            return chat_row(
                self.coder, [sample_turn(rng, self._any_question(rng)) for _ in range(self.n_branches)]
            )
        is_short = rng.random() < mix.short_share
        max_sentences = mix.max_sentences
        if not is_short and rng.random() < mix.small_share:
            max_sentences = min(max_sentences, SMALL_ROW)
        n_asked = self.n_branches + (N_MORE_SHORT if is_short else 0)
        if kind == "soup":
            sentences, asked = self._soup(max_sentences, n_asked, rng)
        elif kind == "echo":
            sentences, asked = self._echo(max_sentences, n_asked, rng)
        elif kind == "facts":
            sentences, asked = self._facts(max_sentences, rng)
        else:
            sentences, asked = self._natural(max_sentences, n_asked, rng)
        rng.shuffle(asked)
        n_marks = len(self.coder.marks)
        first = rng.randrange(0, n_marks - len(sentences) + 1) if rng.random() < 0.5 else 0
        system = rng.choice(SYSTEM_LINES) if rng.random() < 0.08 else None
        return grounded_row(
            self.coder, sentences, asked[:n_asked], first, system, SHORT_REPLY if is_short else None
        )

    def _any_question(self, rng: random.Random) -> str:
        return rng.choice(rng.choice(rng.choice(self.texts).questions).phrasings)

    def _word(self, rng: random.Random) -> str:
        return coin_word(rng) if rng.random() < 0.35 else rng.choice(self.words)

    def _soup(self, max_sentences: int, n_asked: int, rng: random.Random) -> tuple[list[str], list[Asked]]:
        """Sentences of random words; questions of a few words of one of them."""
        n = rng.randint(min(3, max_sentences), max_sentences)
        longest = 8 if max_sentences <= 4 else 14
        contents: list[list[str]] = []
        sentences: list[str] = []
        for _ in range(n):
            words = [
                rng.choice(self.fillers) if rng.random() < 0.4 else self._word(rng)
                for _ in range(rng.randint(4, longest))
            ]
            contents.append([w for w in words if is_content(w)] or words)
            sentences.append(" ".join(words).capitalize() + ".")
        asked: list[Asked] = []
        for _ in range(n_asked):
            target = rng.randrange(n)
            unknown = rng.random() < 0.3
            pool = [self._word(rng) for _ in range(4)] if unknown else list(contents[target])
            words = rng.sample(pool, min(len(pool), rng.randint(2, 4)))
            words = [inflect(w, rng) if rng.random() < 0.2 else w for w in words]
            if not unknown and len(words) < 2:
                continue
            if rng.random() < 0.4 and (unknown or len(words) > 1):
                words.insert(rng.randrange(len(words) + 1), rng.choice(contents[rng.randrange(n)]))
            for _ in range(rng.randint(1, 4)):
                words.insert(rng.randrange(len(words) + 1), rng.choice(self.fillers))
            text = (
                " ".join((rng.choice(("what", "how", "when", "why", "which", "who")), *words)).capitalize()
                + "?"
            )
            asked.append(Asked(question=text, answer=None if unknown else target))
        return sentences, asked or [Asked(question="What?", answer=None)]

    def _echo(self, max_sentences: int, n_asked: int, rng: random.Random) -> tuple[list[str], list[Asked]]:
        """Sentences of a few words repeated over and over, each with two words of its own: hard to copy, easy to find."""
        pool = [self._word(rng) for _ in range(rng.randint(5, 16))] + rng.sample(
            self.fillers, rng.randint(2, 8)
        )
        pool += [","] * rng.randint(0, 2)
        sentences: list[str] = []
        own: list[list[str]] = []
        for _ in range(rng.randint(min(3, max_sentences), max_sentences)):
            keys = [self._word(rng), self._word(rng)]
            words = [rng.choice(pool) for _ in range(rng.randint(4, 16))]
            for key in keys:
                words.insert(rng.randrange(len(words) + 1), key)
            words = [w for w, before in zip(words, ["", *words], strict=False) if w != before]
            text = " ".join(words).replace(" ,", ",").lstrip(", ")
            own.append(keys)
            sentences.append(text[0].upper() + text[1:] + ".")
        asked: list[Asked] = []
        for _ in range(n_asked):
            target = rng.randrange(len(sentences))
            words = [*own[target], *rng.sample(self.fillers, 2)]
            rng.shuffle(words)
            asked.append(Asked(question="What " + " ".join(words) + "?", answer=target))
        return sentences, asked

    def _facts(self, max_sentences: int, rng: random.Random) -> tuple[list[str], list[Asked]]:
        facts = make_facts(rng.randint(min(3, max_sentences), max_sentences) + 2, rng)
        asked = [Asked(question=q, answer=i) for i, (_, q) in enumerate(facts[:-2])]
        asked += [Asked(question=q, answer=None) for _, q in facts[-2:]]
        return [s for s, _ in facts[:-2]], asked

    def _choose_blocks(
        self, max_sentences: int, rng: random.Random
    ) -> tuple[int, list[tuple[int, list[int]]]]:
        """A main text and sections to show, as (text, sentence indexes): some of its own, some of others."""
        main, block = rng.choice(self.blocks)
        blocks = [(main, block)]
        n_wanted = rng.randint(min(3, max_sentences), max_sentences)
        while sum(len(b) for _, b in blocks) < n_wanted and len(blocks) < 6:
            same = [s for s in self.texts[main].sections() if all(s != b for t, b in blocks if t == main)]
            chosen = (main, rng.choice(same)) if same and rng.random() < 0.4 else rng.choice(self.blocks)
            blocks.append(chosen)
        return main, blocks

    def _natural(self, max_sentences: int, n_asked: int, rng: random.Random) -> tuple[list[str], list[Asked]]:
        """Blocks of corpus sentences with their own questions, made questions and unanswerable ones."""
        main, blocks = self._choose_blocks(max_sentences, rng)
        rng.shuffle(blocks)
        places = list(dict.fromkeys((t, s) for t, b in blocks for s in b))
        if rng.random() < 0.3:
            rng.shuffle(places)
        wanted = [(q, t) for t in dict.fromkeys(t for t, _ in places) for q in self.texts[t].questions]
        answered = [(q, t) for q, t in wanted if q.answer is not None and (t, q.answer) in places]
        dropped: set[tuple[int, int]] = set()
        if answered and len(places) > 3 and rng.random() < 0.5:
            q, t = rng.choice(answered)
            dropped.add((t, q.answer or 0))
        if len(places) - len(dropped) > max_sentences:
            keep = [p for p in places if p not in dropped][:max_sentences]
            places = [p for p in places if p in keep or p in dropped]
        shown = [p for p in places if p not in dropped][:max_sentences]
        asked: list[Asked] = []
        for q, t in rng.sample(wanted, len(wanted)):
            phrasing = soften(rng.choice(q.phrasings), rng)
            if q.answer is None:
                if t == main or rng.random() < 0.5:
                    asked.append(Asked(question=phrasing, answer=None))
            elif (t, q.answer) in shown:
                asked.append(Asked(question=phrasing, answer=shown.index((t, q.answer))))
            elif (t, q.answer) in dropped or rng.random() < 0.06:
                asked.append(Asked(question=phrasing, answer=None))
        asked = asked[: n_asked - 1]
        if rng.random() < 0.5:
            other = rng.choice(self.texts)
            if all(self.texts[t] is not other for t, _ in places):
                asked.append(Asked(question=rng.choice(rng.choice(other.questions).phrasings), answer=None))
        sentences = [self.texts[t].sentences[s] for t, s in shown]
        while len(asked) < n_asked:
            index = rng.randrange(len(sentences))
            asked.append(Asked(question=ask_about(sentences[index], self.rarity, rng), answer=index))
        if rng.random() < 0.6:
            return self._reword(sentences, asked, rng)
        return sentences, asked

    def _reword(
        self, sentences: list[str], asked: list[Asked], rng: random.Random
    ) -> tuple[list[str], list[Asked]]:
        """Replace a random part of the content stems by other words, everywhere alike, keeping endings and case."""
        share = rng.choice((0.3, 0.6, 0.9))
        swap: dict[str, str] = {}

        def change(text: str) -> str:
            out: list[str] = []
            for piece in split_pieces(text):
                if not is_content(piece):
                    out.append(piece)
                    continue
                stem, suffix = split_stem(piece)
                if stem not in swap:
                    fresh = (
                        str(rng.randint(2, 99)) if piece.strip().isdigit() else split_stem(self._word(rng))[0]
                    )
                    swap[stem] = fresh if rng.random() < share else ""
                if not swap[stem]:
                    out.append(piece)
                    continue
                word = swap[stem] + suffix
                space = " " if piece.startswith(" ") else ""
                out.append(space + (word.capitalize() if piece.strip()[0].isupper() else word))
            return "".join(out)

        changed = [change(s) for s in sentences]
        return changed, [Asked(question=change(a.question), answer=a.answer) for a in asked]


def make_batch(maker: RowMaker, mix: Mix, seed: int, step: int, batch_tokens: int) -> Batch:
    """The batch of one step: rows of similar length, about `batch_tokens` token slots in all."""
    rng = random.Random(f"{seed}:{step}")
    pool = sorted((maker.draw(mix, rng) for _ in range(10)), key=Row.size)
    start = rng.randrange(len(pool))
    chosen = [pool[start]]
    low, high = start - 1, start + 1
    while low >= 0 or high < len(pool):
        index = high if low < 0 or (high < len(pool) and rng.random() < 0.5) else low
        low, high = (low - 1, high) if index == low else (low, high + 1)
        if (len(chosen) + 1) * max(row.size() for row in (*chosen, pool[index])) > batch_tokens:
            break
        chosen.append(pool[index])
    return stack_rows(chosen, maker.coder)


def stem_set(text: str) -> set[str]:
    """The content stems of a text, for baselines and checks."""
    return {stem_of(piece) for piece in split_pieces(text) if is_content(piece)}
