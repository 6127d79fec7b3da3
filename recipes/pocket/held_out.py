"""Held-out cases: questions of held-out articles with the sentences that are shown beside them. No model, no torch.

Three sets: `answerable` (the answer's section and its neighbours, plus a section of another held-out article, blocks in
random order, 6 to 14 sentences), `absent` (held-out questions over sections of other held-out articles) and `near_miss`
(an article's own unanswerable questions over its own sections). Run as a program it writes the cases that ship with
Penstock for comparing prompts: the main phrasings of `answerable` and `near_miss`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from corpus import Text, load_articles

Kind = str
MAX_SENTENCES, MIN_WORDS = 14, 80


@dataclass(frozen=True, kw_only=True)
class Case:
    kind: Kind
    source: str
    phrasing: int  # 0 is the main phrasing, others are alternatives
    question: str
    sentences: tuple[str, ...]
    answer: str | None


def take_block(text: Text, section: int, n_words: int) -> list[str]:
    """A section with as many following (then preceding) ones as bring it to about `n_words` words."""
    sections = text.sections()
    chosen = [section]
    while sum(len(text.sentences[i].split()) for s in chosen for i in sections[s]) < n_words:
        after, before = chosen[-1] + 1, chosen[0] - 1
        if after < len(sections):
            chosen.append(after)
        elif before >= 0:
            chosen.insert(0, before)
        else:
            break
    return [text.sentences[i] for s in chosen for i in sections[s]]


def arrange(blocks: list[list[str]], rng: random.Random, must_keep: str | None) -> tuple[str, ...]:
    """Blocks in random order, cut at the end of the longest blocks to the most sentences a case may have."""
    rng.shuffle(blocks)
    while sum(map(len, blocks)) > MAX_SENTENCES:
        longest = max(blocks, key=len)
        longest.pop(-1 if longest[-1] != must_keep else 0)
    return tuple(sentence for block in blocks for sentence in block)


def make_cases(texts: Sequence[Text], seed: int) -> list[Case]:
    """All cases for all questions and phrasings of the given texts."""
    rng = random.Random(seed)
    cases: list[Case] = []

    def random_block(avoid: Sequence[str], n_words: int) -> list[str]:
        other = rng.choice([t for t in texts if t.name not in avoid])
        return take_block(other, rng.randrange(len(other.sections())), n_words)

    for text in texts:
        for question in text.questions:
            for number, phrasing in enumerate(question.phrasings):
                sections = text.sections()
                kinds: list[tuple[Kind, list[list[str]], str | None]] = []
                if question.answer is None:
                    own = take_block(text, rng.randrange(len(sections)), MIN_WORDS)
                    kinds.append(("near_miss", [own, random_block((text.name,), 50)], None))
                else:
                    answer = text.sentences[question.answer]
                    home = next(n for n, s in enumerate(sections) if question.answer in s)
                    own = take_block(text, home, MIN_WORDS)
                    kinds.append(("answerable", [own, random_block((text.name,), 50)], answer))
                    first = rng.choice([t for t in texts if t.name != text.name])
                    block = take_block(first, rng.randrange(len(first.sections())), MIN_WORDS)
                    kinds.append(("absent", [block, random_block((text.name, first.name), 50)], None))
                for kind, blocks, wanted in kinds:
                    shown = arrange(blocks, rng, wanted)
                    cases.append(
                        Case(
                            kind=kind,
                            source=text.name,
                            phrasing=number,
                            question=phrasing,
                            sentences=shown,
                            answer=wanted,
                        )
                    )
    return cases


UNKNOWN = "I do not know from these passages."
SHIPPED = (
    Path(__file__).resolve().parents[2] / "src" / "penstock" / "data" / "handbook" / "held_out_cases.jsonl"
)
SEED = 11


def list_rows(cases: Sequence[Case]) -> list[dict[str, object]]:
    """The shipped rows: one a main phrasing, grouped by article, since cases of one article share their sentences."""
    counts: dict[str, int] = {}
    rows: list[dict[str, object]] = []
    for case in cases:
        if case.phrasing or case.kind == "absent":
            continue
        number = counts[case.source] = counts.get(case.source, 0) + 1
        rows.append(
            {
                "id": f"{case.source}-{number}",
                "inputs": {"question": case.question, "sentences": list(case.sentences)},
                "expected": case.answer or UNKNOWN,
                "group": case.source,
                "split": "heldout",
                "tags": [case.kind],
            }
        )
    return rows


def main() -> None:
    """Write the shipped cases anew."""
    rows = list_rows(make_cases(load_articles("heldout"), SEED))
    SHIPPED.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    print(f"{len(rows)} cases in {SHIPPED.name}")


if __name__ == "__main__":
    main()
