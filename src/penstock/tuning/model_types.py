"""Nouns of registered models: where one came from, a folder of its weights, and what a registration made."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from penstock.spec.tuning import PinnedAsset
from penstock.tuning.renderer import Renderer


class ModelLineage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a version was made from; part of its content, so another origin is another version."""

    base: PinnedAsset | None = None
    data: tuple[PinnedAsset, ...] = ()
    """Whose rows it was trained on."""
    named_data: tuple[PinnedAsset, ...] = ()
    """What the recipe of a training program of one's own names: Penstock gave it no rows, so nobody knows that it read them."""
    base_rounding: str | None = None
    """How the base was rounded while an adapter was trained on it: `nf4` (QLoRA); None where it was not."""
    method: str | None = None
    """How it was made: a method of tuning, `quantise`, `convert` (from weights that its base keeps), `shrink`, `merge`."""
    recipe: dict[str, Any] | None = None
    recipe_digest: str | None = None
    run: str | None = None
    frozen_digest: str | None = None
    code: str | None = None
    """Version of Penstock, and the digest of a training program of its own where there was one."""
    environment: dict[str, Any] | None = None
    """Digest of the runtime and its packages."""
    hardware: dict[str, Any] | None = None
    evaluation: dict[str, Any] | None = None
    """What was measured while training: metric, value, step, rows; None when nothing was."""


@dataclass(frozen=True, kw_only=True)
class BaseFolder:
    """A version's weights in Hugging Face layout, every file proven by digest."""

    folder: Path
    pinned: PinnedAsset
    renderer: Renderer
    license: str | None = None
    stop_ids: tuple[int, ...] = ()
    pad_id: int = 0
    context_length: int = 0


@dataclass(frozen=True, kw_only=True)
class RegisteredModel:
    """What `register_trained` registered."""

    label: str
    """`model:NAME@NUMBER` of the version itself: the first precision, or the adapter where nothing was merged."""
    digest: str
    children: tuple[str, ...] = ()
    """Labels of the further precisions."""
    adapter: str | None = None
    """Label of the adapter's version, where one was kept."""
