"""Before a teacher is asked for a run's rows: whatever would refuse the run anyway is found first, on the prompts alone.

Replies are paid for, so they are also kept in the run's folder: a run that is stopped, killed or taken up by another job asks for
nothing that it has.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from penstock.base.digest import digest_json
from penstock.base.files import write_atomic
from penstock.spec.datasets import DatasetFormat, DatasetRow
from penstock.tuning.preflight.types import Finding
from penstock.tuning.rows.types import RowSource
from penstock.tuning.runs.pinning import PinnedRecipe
from penstock.tuning.runs.ports import RunContext

ARRIVING = "arriving.jsonl"
"""Beside the finished steps: replies of the wave under way."""
ANSWER = "?"
"""Stands for the answer that is still to be asked for."""


@dataclass(frozen=True)
class KeptSteps:
    """A run's context whose finished steps lie in `folder`, whichever job or command runs them."""

    context: RunContext
    folder: Path

    def progress(self, fraction: float | None, message: str | None = None) -> None:
        """Tell how far it is."""
        self.context.progress(fraction, message)

    def log(self, text: str) -> None:
        """Keep a line."""
        self.context.log(text)

    def check_cancelled(self) -> None:
        """Raise when the run is to stop."""
        self.context.check_cancelled()

    def step(self, name: str, inputs: dict[str, Any], fn: Callable[[], Any]) -> Any:
        """Return what `fn()` returned for these inputs, once for this run."""
        path = self.folder / f"{digest_json([name, inputs])[7:39]}.json"
        if not path.is_file():
            self.context.check_cancelled()
            value = fn()
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomic(path, msgspec.json.encode(value))
        return json.loads(path.read_text(encoding="utf-8"))


def as_if_answered(pinned: PinnedRecipe) -> PinnedRecipe:
    """Return the recipe with an answer to each row that has none, so that the prompts can be looked at."""
    return replace(pinned, train=replace(pinned.train, read=partial(_answered, pinned.train)))


def _answered(source: RowSource) -> Iterator[DatasetRow]:
    for row in source.read():
        yield msgspec.structs.replace(row, fields=_with_answer(dict(row.fields), source.facts.format))


def _with_answer(fields: dict[str, Any], form: DatasetFormat) -> dict[str, Any]:
    if form == "cases" and fields.get("expected") is None:
        return {**fields, "expected": ANSWER}
    messages = fields.get("messages") or []
    if form == "chat" and messages and messages[-1].get("role") != "assistant":
        return {**fields, "messages": [*messages, {"role": "assistant", "content": ANSWER}]}
    return fields


def find_objections(findings: Sequence[Finding]) -> list[Finding]:
    """Return what refuses the run whatever the teacher says: all but what is found in rows whose answers are to change."""
    return [
        each
        for each in findings
        if each.severity == "refuse"
        and (each.code == "contaminated" or (each.n_rows == 0 and each.code != "zero-rows"))
    ]
