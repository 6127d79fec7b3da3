"""Datasets over a registry of a fresh home, and traffic that is made up."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from penstock.base.errors import NotFound
from penstock.datasets.service import DatasetService
from penstock.datasets.types import Judgement, TrafficRow
from penstock.registry.service import Registry
from penstock.store.blobs import BlobStore


class MadeUpTraffic:
    """A record of traffic that is a list."""

    def __init__(self, calls: list[TrafficRow] | None = None, judged: list[Judgement] | None = None) -> None:
        self.calls = calls or []
        self.judged = judged or []

    def find_calls(self, search: str, *, limit: int, **_: Any) -> Iterator[TrafficRow]:
        return iter([call for call in self.calls if search in str(call.facts)][:limit])

    def get_call(self, trace_id: str, span_id: str | None) -> TrafficRow:
        for call in self.calls:
            if call.trace_id == trace_id and span_id in {None, call.span_id}:
                return call
        raise NotFound("no such call")

    def list_judgements(self, *, name: str | None, limit: int, **_: Any) -> Iterator[Judgement]:
        return iter([each for each in self.judged if name in {None, each.name}][:limit])


def make_datasets(root: Path, engine: Engine, traffic: MadeUpTraffic | None = None) -> DatasetService:
    """Return datasets whose files lie below `root`."""

    @contextlib.contextmanager
    def hold() -> Iterator[Path]:
        folder = root / "work"
        folder.mkdir(exist_ok=True, parents=True)
        yield folder

    blobs = BlobStore(str(root / "blobs"))
    return DatasetService(
        Registry(engine, blobs), blobs, hold_folder=hold, traffic=traffic, private_root=root / "home"
    )


def make_call(number: int, question: str, reply: Any = "An answer.", **changes: Any) -> TrafficRow:
    """Return one call."""
    values: dict[str, Any] = {
        "trace_id": f"{number:032x}",
        "span_id": f"{number:016x}",
        "messages": [{"role": "user", "content": question}],
        "inputs": {},
        "reply": reply,
        "dropped": False,
        "status": "ok",
        "group": f"s{number % 2}",
        "facts": {"model": "pocket"},
    }
    return TrafficRow(**{**values, **changes})
