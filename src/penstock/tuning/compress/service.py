"""Use-cases of models for those that only ask: queue work on weights, read what was measured, compare versions."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import msgspec

from penstock.spec.assets import AssetRef
from penstock.tuning.compress.distilling import check_distillation
from penstock.tuning.compress.requests import DistillRequest, MeasureRequest, QuantiseRequest, ShrinkRequest
from penstock.tuning.compress.store import MeasurementPage, MeasurementStore
from penstock.tuning.compress.types import MeasuredPart, ModelComparison, ModelMeasurement

WorkKind = Literal["quantise", "shrink", "measure", "verify", "distill"]
Compare = Callable[[Sequence[str]], ModelComparison]


class WorkQueue(Protocol):
    """Queues background work."""

    def submit(self, kind: WorkKind, spec: dict[str, Any]) -> str:
        """Return the id of the job, or of the same one under way."""
        ...


class Versions(Protocol):
    """Finds registered versions."""

    def resolve(self, ref: AssetRef | str) -> Any:
        """Return the version; raise what finding it raises."""
        ...


class CompressService:
    """Every method may be called from any thread; none runs a model."""

    def __init__(
        self, store: MeasurementStore, versions: Versions, queue: WorkQueue, compare: Compare
    ) -> None:
        self._store = store
        self._versions = versions
        self._queue = queue
        self._compare = compare

    def quantise(self, request: QuantiseRequest, *, actor: str) -> str:
        """Queue other precisions of a version and return the job's id."""
        self._versions.resolve(request.model)
        return self._queue.submit("quantise", {**_plain(request), "actor": actor})

    def shrink(self, request: ShrinkRequest, *, actor: str) -> str:
        """Queue a smaller model and return the job's id."""
        self._versions.resolve(request.model)
        return self._queue.submit("shrink", {**_plain(request), "actor": actor})

    def measure(self, request: MeasureRequest, *, actor: str) -> str:
        """Queue measuring versions side by side and return the job's id."""
        for ref in (*request.models, *((request.against,) if request.against else ())):
            self._versions.resolve(ref)
        return self._queue.submit("measure", {"request": _plain(request), "actor": actor})

    def verify(self, ref: AssetRef | str, *, with_parity: bool, actor: str) -> str:
        """Queue proving a version once more and return the job's id, or that of the same proof under way."""
        version = self._versions.resolve(ref)
        pinned = f"model:{version.name}@{version.number}"
        return self._queue.submit("verify", {"model": pinned, "parity": with_parity, "actor": actor})

    def distill(self, request: DistillRequest, *, actor: str) -> str:
        """Queue asking a teacher and return the job's id."""
        check_distillation(request.part)
        self._versions.resolve(request.dataset)
        return self._queue.submit("distill", {"request": _plain(request), "actor": actor})

    def compare(self, refs: Sequence[str]) -> ModelComparison:
        """Return versions beside the first of them, by what was measured."""
        return self._compare(refs)

    def list(
        self,
        *,
        model: str | None = None,
        part: MeasuredPart | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> MeasurementPage:
        """Return measurements without their raw facts, newest first."""
        digest = None if model is None else self._versions.resolve(model).digest
        page = self._store.list(digest=digest, part=part, cursor=cursor, limit=limit)
        rows = [msgspec.structs.replace(row, facts={}) for row in page.rows]
        return MeasurementPage(rows=rows, total=page.total, next_cursor=page.next_cursor)

    def get(self, measurement_id: str) -> ModelMeasurement:
        """Return one measurement, whole."""
        return self._store.get(measurement_id)

    def newest(self, model: str) -> dict[MeasuredPart, ModelMeasurement]:
        """Return the newest measurement of each part of a version, without raw facts."""
        found = self._store.newest(self._versions.resolve(model).digest)
        return {part: msgspec.structs.replace(made, facts={}) for part, made in found.items()}


def _plain(request: msgspec.Struct) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(request)
    return fields
