"""Datasets in a fresh home, a model that says what a test wants, and a journal as jobs have it."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from penstock.datasets.cleaning.service import CleaningService
from penstock.datasets.proposals.ports import ModelAnswer
from penstock.datasets.proposals.service import ProposalService
from penstock.datasets.service import DatasetService
from penstock.registry.service import Registry
from penstock.spec.cases import Passage
from penstock.spec.datasets import DatasetRow
from penstock.store.blobs import BlobStore
from penstock.store.control.engine import open_control

CENT = Decimal("0.01")


class ScriptedModel:
    """Answers what `script` says of the user's message; every call costs a cent a thousand tokens."""

    def __init__(self) -> None:
        self.script: Callable[[str], ModelAnswer | list[dict[str, Any]] | str] = lambda text: []
        self.price_known = True
        self.asked: list[list[Mapping[str, Any]]] = []

    def ask(
        self,
        model: str,
        messages: Sequence[Mapping[str, Any]],
        *,
        parameters: Mapping[str, Any],
        session: str,
    ) -> ModelAnswer:
        """Answer by the script."""
        self.asked.append(list(messages))
        said = self.script(str(messages[-1]["content"]))
        if isinstance(said, ModelAnswer):
            return said
        text = said if isinstance(said, str) else json.dumps({"proposals": said})
        return ModelAnswer(status="ok", text=text, input_tokens=500, output_tokens=500, trace_id="f" * 32)

    def price(self, model: str, *, input_tokens: int, output_tokens: int) -> Decimal | None:
        """Price by tokens."""
        return CENT * (input_tokens + output_tokens) / 1000 if self.price_known else None


class Passages:
    """One base of five passages in two documents."""

    def read(self, name: str) -> Iterator[Passage]:
        """Yield them."""
        for number in range(5):
            document = "sleep.md" if number < 3 else "water.md"
            yield Passage(id=f"p{number}", text=f"Passage {number} of {document}.", document=document)


class Journal:
    """What a run uses of a job's context; steps are kept over runs."""

    def __init__(self) -> None:
        self.job_id = "job_1"
        self.kept: dict[str, Any] = {}
        self.lines: list[str] = []

    def step(self, name: str, inputs: dict[str, Any], fn: Callable[[], Any]) -> Any:
        """Run once for these inputs."""
        key = json.dumps([name, inputs], sort_keys=True)
        if key not in self.kept:
            self.kept[key] = json.loads(json.dumps(fn()))
        return self.kept[key]

    def progress(self, fraction: float | None, message: str | None = None) -> None:
        """Nobody looks."""

    def log(self, text: str) -> None:
        """Keep the line."""
        self.lines.append(text)


class Jobs:
    """Takes specs and runs nothing."""

    def __init__(self) -> None:
        self.specs: list[dict[str, Any]] = []

    def submit(self, spec: dict[str, Any]) -> str:
        """Note the spec."""
        self.specs.append(json.loads(json.dumps(spec)))
        return "job_1"


class House:
    """Everything together."""

    def __init__(self, root: Path) -> None:
        self.engine = open_control(f"sqlite:///{root / 'control.db'}")
        self.model, self.jobs, self.journal = ScriptedModel(), Jobs(), Journal()
        folder = root / "moving"
        folder.mkdir()

        @contextmanager
        def hold() -> Iterator[Path]:
            yield folder

        blobs = BlobStore(str(root / "blobs"))
        self.registry = Registry(self.engine, blobs)
        self.datasets = DatasetService(self.registry, blobs, hold_folder=hold)
        self.cleaning = CleaningService(self.datasets)
        self.proposals = ProposalService(self.engine, self.datasets, self.model, Passages(), self.jobs)

    def run(self) -> dict[str, Any]:
        """Do the job that was submitted last."""
        return self.proposals.runs.run(self.journal, self.jobs.specs[-1])


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    made.datasets.create_from_rows("quiz", rows(), "cases")
    yield made
    made.engine.dispose()


def rows() -> list[DatasetRow]:
    """Three questions; the last one is held out and belongs to a group."""
    asked = ["How many hours of sleep do adults need?", "How much water should one drink?", "Are naps good?"]
    return [
        DatasetRow(
            id=f"q{n}",
            fields={"input": text, "expected": f"answer {n}"},
            split="test" if n == 2 else "train",
            group="naps" if n == 2 else None,
        )
        for n, text in enumerate(asked)
    ]
