"""Questions of the handbook with numbered sentences beside them: to tune a small model on, and to prove it on articles that
nothing was trained on.

Each wording of a question becomes a case: `as_written`, which shares words with its answer, or `rephrased`, which shares
fewer. Beside it stand the answer's section and its neighbours with a section of another article (`answerable`), sections of
other articles alone (`absent`), or sections of its own article that do not hold the answer to it (`near_miss`). The expected reply is the
sentence with its number, or that it is not known. Articles of one split never lend sentences to the other.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal

import msgspec

UNKNOWN = "I do not know from these passages."
Kind = Literal["answerable", "absent", "near_miss"]
_MAX_SENTENCES = 14
_DEV_EVERY = 5
"""Of the articles for training, each fifth is kept for choosing among runs."""


@dataclass(frozen=True, kw_only=True)
class Draw:
    """How cases are drawn."""

    split: Literal["train", "heldout"]
    n_contexts: int
    """Different surroundings that each wording is shown in."""
    absent_share: float
    """Of the answerable wordings: how many are asked over sections of other articles, too."""
    as_written_share: float = 1.0
    """Of the answerable cases as they were written: how many there are. They are the easy ones."""
    own_words: int = 80
    other_words: int = 50
    """Least size of the section with the answer, and of the one beside it."""
    seed: int = 20


HELD_OUT = Draw(split="heldout", n_contexts=1, absent_share=0.35)
TUNING = Draw(
    split="train", n_contexts=4, absent_share=0.35, as_written_share=0.35, own_words=50, other_words=30
)
"""Shorter surroundings than those that prove it: more rows for the same time."""
_DEV = Draw(split="train", n_contexts=1, absent_share=1.0)


@dataclass(frozen=True, kw_only=True)
class Article:
    """An article's sentences by section, and its questions as `questions.jsonl` holds them."""

    name: str
    sections: tuple[tuple[str, ...], ...]
    questions: tuple[dict[str, Any], ...]


def write_cases(data: Traversable, folder: Path, draw: Draw) -> Path:
    """Write the cases of `draw` as JSON lines of format `cases` into `folder` and return the file. Always the same bytes."""
    target = folder / f"{draw.split}_cases.jsonl"
    with target.open("wb") as writing:
        for row in draw_cases(read_articles(data, draw.split), draw):
            writing.write(msgspec.json.encode(row) + b"\n")
    return target


def read_articles(data: Traversable, split: str) -> list[Article]:
    """Return the articles of a split, by name."""
    asked: dict[str, list[dict[str, Any]]] = {}
    for line in (data / "questions.jsonl").read_bytes().splitlines():
        question = msgspec.json.decode(line)
        asked.setdefault(question["document"].rsplit(".", 1)[0], []).append(question)
    articles = []
    for line in (data / "sentences.jsonl").read_bytes().splitlines():
        row = msgspec.json.decode(line)
        if row["split"] == split:
            articles.append(
                Article(
                    name=row["article"],
                    sections=tuple(tuple(section) for section in row["sections"]),
                    questions=tuple(asked.get(row["article"], ())),
                )
            )
    return articles


def draw_cases(articles: Sequence[Article], draw: Draw) -> Iterator[dict[str, Any]]:
    """Yield the rows, none twice. What is drawn for one wording does not depend on any other."""
    seen: set[tuple[str, ...]] = set()
    for place, article in enumerate(articles):
        part = "heldout" if draw.split == "heldout" else "dev" if _is_dev(place) else "train"
        how = _DEV if part == "dev" else draw
        # sentences around a question come from its own part, so that what is chosen on was not read in training
        others = [
            each
            for number, each in enumerate(articles)
            if each is not article and (part == "heldout" or _is_dev(number) == (part == "dev"))
        ]
        for question in article.questions:
            for number, wording in enumerate([question["question"], *question.get("alternatives", ())]):
                for context in range(how.n_contexts):
                    stem = f"{question['id']}-{number + 1}" + (f"-{context + 1}" if part == "train" else "")
                    rng = random.Random(f"{draw.seed}:{stem}")
                    for kind in _kinds_of(question, how, rng, is_as_written=number == 0):
                        sentences = _surround(
                            article, question["answer"], kind, others=others, draw=how, rng=rng
                        )
                        if (wording, *sentences) in seen:
                            continue
                        seen.add((wording, *sentences))
                        yield {
                            "id": stem if kind == "answerable" else f"{stem}-{kind}",
                            "inputs": {"question": wording, "sentences": sentences},
                            "expected": _reply(sentences, question["answer"])
                            if kind == "answerable"
                            else UNKNOWN,
                            "group": article.name,
                            "split": part,
                            "tags": [kind],
                            "metadata": {
                                "wording": "rephrased" if number else "as_written",
                                "answer": "there" if kind == "answerable" else "missing",
                            },
                        }


def _is_dev(place: int) -> bool:
    return place % _DEV_EVERY == _DEV_EVERY - 1


def _kinds_of(
    question: dict[str, Any], draw: Draw, rng: random.Random, *, is_as_written: bool
) -> Iterator[Kind]:
    if question["answer"] is None:
        yield "near_miss"
        return
    if not is_as_written or rng.random() < draw.as_written_share:
        yield "answerable"
    if rng.random() < draw.absent_share:
        yield "absent"


def _reply(sentences: Sequence[str], answer: str) -> str:
    return f"[{sentences.index(answer) + 1}] {answer}"


def _surround(
    article: Article,
    answer: str | None,
    kind: Kind,
    *,
    others: Sequence[Article],
    draw: Draw,
    rng: random.Random,
) -> list[str]:
    first = article
    if kind == "absent":
        first = rng.choice(others)
        home = rng.randrange(len(first.sections))
    elif answer is None:
        home = rng.randrange(len(first.sections))
    else:
        home = next(number for number, section in enumerate(first.sections) if answer in section)
    second = rng.choice([each for each in others if each is not first])
    blocks = [
        take_block(first, home, draw.own_words),
        take_block(second, rng.randrange(len(second.sections)), draw.other_words),
    ]
    rng.shuffle(blocks)
    while sum(map(len, blocks)) > _MAX_SENTENCES:
        longest = max(blocks, key=len)
        longest.pop(-1 if kind != "answerable" or longest[-1] != answer else 0)
    return [sentence for block in blocks for sentence in block]


def take_block(article: Article, section: int, n_words: int) -> list[str]:
    """Return a section with as many following, then preceding ones as bring it to about so many words."""
    chosen = [section]
    while sum(len(text.split()) for each in chosen for text in article.sections[each]) < n_words:
        if chosen[-1] + 1 < len(article.sections):
            chosen.append(chosen[-1] + 1)
        elif chosen[0] > 0:
            chosen.insert(0, chosen[0] - 1)
        else:
            break
    return [text for each in chosen for text in article.sections[each]]
