"""Recipes, rows and flights for tests."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from penstock.datasets.cases import row_to_case
from penstock.spec.datasets import DatasetFacts, DatasetFormat, DatasetRow
from penstock.spec.tuning import DataPart, HeldOutPart, OutputPart, Recipe
from penstock.tuning.preflight.types import BaseFacts, Flight
from penstock.tuning.rows.types import RowSource
from tests.tuning.chat_templates import CHATML, make_renderer

RENDERER = make_renderer(CHATML)
BASE = BaseFacts(
    ref="model:tiny@1",
    digest="sha256:" + "1" * 64,
    revision="trained",
    license="apache-2.0",
    context_length=256,
    vocab_size=1000,
)
_TOPICS = [
    "water",
    "sleep",
    "walking",
    "bread",
    "light",
    "tea",
    "stairs",
    "shoes",
    "music",
    "rain",
    "posture",
    "fruit",
    "breakfast",
    "laughter",
    "swimming",
]


def chat(question: str, answer: str, **row: Any) -> DatasetRow:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return DatasetRow(id=row.pop("id", f"r-{question}"), fields={"messages": messages}, **row)


def good_rows(n: int, first: int = 0) -> list[DatasetRow]:
    """Return rows that nothing is wrong with, no two alike."""
    topics = len(_TOPICS)
    return [
        chat(
            f"How much {_TOPICS[k % topics]} helps on day {k}, and after {_TOPICS[k * 7 % topics]}?",
            f"About {k} minutes of {_TOPICS[k % topics]}.",
            id=f"r{k}",
        )
        for k in range(first, first + n)
    ]


def source(
    rows: Sequence[DatasetRow], form: DatasetFormat = "chat", ref: str = "dataset:talk@1", **facts: Any
) -> RowSource:
    told = DatasetFacts(format=form, n_rows=len(rows), rows_digest="sha256:0", **facts)
    return RowSource(ref=ref, facts=told, read=lambda: iter(rows))


def recipe(method: Any = "lora", *, data: dict[str, Any] | None = None, **parts: Any) -> Recipe:
    return Recipe(
        name="try",
        method=method,
        data=DataPart(train="dataset:talk", **{"eval_share": 0.0, **(data or {})}),
        output=parts.pop("output", OutputPart(name="tried")),
        evaluation=parts.pop("evaluation", HeldOutPart(max_rows=5, n_samples=2)),
        **parts,
    )


def flight(rows: Sequence[DatasetRow] | RowSource, **changes: Any) -> Flight:
    """Return a flight over rows; what is not named is well."""
    train = rows if isinstance(rows, RowSource) else source(rows)
    base = changes.pop("base", BASE)
    if isinstance(base, dict):
        base = dataclasses.replace(BASE, **base)
    return Flight(
        recipe=changes.pop("recipe", recipe()),
        renderer=changes.pop("renderer", RENDERER),
        train=train,
        as_case=row_to_case,
        base=base,
        **changes,
    )
