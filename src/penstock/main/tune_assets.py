"""What recipes name by reference, out of registry and datasets: `tuning.runs.ports.TrainingAssets`; and prices."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import msgspec

from penstock.base.errors import InvalidInput
from penstock.datasets.service import DatasetService
from penstock.evals.ports import Prices
from penstock.registry.service import Registry
from penstock.registry.types import Version
from penstock.spec.datasets import DatasetRow
from penstock.spec.prompts import PromptContent
from penstock.spec.tuning import PinnedAsset
from penstock.tuning.preflight.types import BaseFacts
from penstock.tuning.rows.types import RowSource

_KEPT_IN_FULL = "hf/config.json"
"""An artefact of versions whose Hugging Face form is kept."""


class RegistryAssets:
    """Datasets, prompts and models of one home, pinned."""

    def __init__(self, registry: Registry, datasets: DatasetService) -> None:
        self._registry = registry
        self._datasets = datasets

    def dataset(self, ref: str) -> tuple[PinnedAsset, RowSource]:
        """Return a version of a dataset; see the port."""
        version = self._datasets.get(ref)
        pinned = PinnedAsset(asset=f"dataset:{version.name}", number=version.number, digest=version.digest)
        read = partial(_read, self._datasets, version.ref)
        return pinned, RowSource(ref=version.ref, facts=version.facts, read=read)

    def prompt(self, ref: str) -> tuple[PinnedAsset, PromptContent]:
        """Return a version of a prompt; see the port."""
        version = self._resolve(ref, "prompt")
        return _pin(version), msgspec.convert(dict(version.content), PromptContent)

    def base(self, ref: str) -> tuple[PinnedAsset, BaseFacts]:
        """Return a version of a model; see the port."""
        version = self._resolve(ref, "model")
        return _pin(version), describe_base(version)

    def _resolve(self, ref: str, kind: str) -> Version:
        version = self._registry.resolve(ref)
        if version.kind != kind:
            raise InvalidInput(f"{ref!r} names no {kind}.", hint=f"Write {kind}:NAME or {kind}:NAME@VERSION.")
        return version


class TeacherPrices:
    """`tuning.runs.ports.Prices` over the prices that evaluations estimate with."""

    def __init__(self, prices: Prices) -> None:
        self._prices = prices

    def cost_usd(self, model: str, tokens_in: int, tokens_out: int) -> float | None:
        """Return the price of so many tokens; see the port."""
        cost = self._prices.estimate_usd(model, input_tokens=tokens_in, output_tokens=tokens_out)
        return None if cost is None else float(cost)


def describe_base(version: Version) -> BaseFacts:
    """Return what the preflight asks about a base."""
    content = version.content
    adapter: dict[str, Any] = content.get("adapter") or {}
    return BaseFacts(
        ref=version.label,
        digest=version.digest,
        revision=find_revision(content),
        license=content.get("license"),
        context_length=int(content.get("context_length") or 0),
        precision=None if _KEPT_IN_FULL in version.artefacts else content.get("precision"),
        renderer_digest=content.get("renderer_digest"),
        adapter_base=adapter.get("base_digest"),
    )


def find_revision(content: dict[str, Any]) -> str | None:
    """Return which state of its source a version is: a hub's revision, or `shipped`, `trained`, or files by digest."""
    source: dict[str, Any] = content.get("source") or {}
    if (content.get("lineage") or {}).get("run"):
        return "trained"
    if source.get("revision"):
        return str(source["revision"])
    form = source.get("form")
    if form == "hub":
        return None
    return form if form == "shipped" else ("files by digest" if source.get("files") else None)


def _read(datasets: DatasetService, ref: str) -> Iterable[DatasetRow]:
    return datasets.read(ref)


def _pin(version: Version) -> PinnedAsset:
    return PinnedAsset(asset=version.asset, number=version.number, digest=version.digest)
