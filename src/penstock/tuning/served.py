"""From a model version to what an engine process is given: files on local disk, proven, and every setting explicit."""

import msgspec

from penstock.base.digest import short_digest
from penstock.base.errors import InvalidInput
from penstock.providers.engines.types import SamplingPolicy, ServedAdapter, ServedModel
from penstock.tuning.cards import base_label
from penstock.tuning.errors import UnsupportedModel, WrongBase
from penstock.tuning.model_files import ADAPTER_GGUF, GGUF, RENDERER, TOKENIZER, ModelFiles, ModelVersion
from penstock.tuning.renderer import Renderer, load_renderer

MAX_SERVED_CONTEXT = 8192  # memory: the key cache of every slot is reserved at load


def stamp(version: ModelVersion) -> str:
    """Return how replies name the version: `model:pocket@1 sha256:0123456789ab`."""
    return f"model:{version.name}@{version.number} sha256:{short_digest(version.digest)}"


def serve_files(version: ModelVersion, files: ModelFiles) -> ServedModel:
    """Return a version as an engine is given it. Raises `InvalidInput` for an adapter, `DigestMismatch` when damaged."""
    content = version.content
    if content.get("adapter"):
        base = base_label(content) or "its base"
        raise InvalidInput(
            f"model:{version.name}@{version.number} is an adapter; it is served on {base}.",
            hint=f"penstock deploy model {base} --adapter model:{version.name}@{version.number}",
        )
    return ServedModel(
        name=version.name,
        kind=content["kind"],
        version=stamp(version),
        gguf=files.path(version, GGUF),
        renderer=files.path(version, RENDERER),
        tokenizer=files.path(version, TOKENIZER),
        context_length=min(int(content["context_length"]), MAX_SERVED_CONTEXT),
        dims=content["dims"],
        sampling=msgspec.convert(content["sampling"], SamplingPolicy),
        description=content.get("description") or "",
        stop_ids=tuple(content.get("stop_ids") or ()),
        digest=version.digest,
    )


def serve_adapter(adapter: ModelVersion, base: ModelVersion, files: ModelFiles) -> ServedAdapter:
    """Return an adapter as an engine of `base` is given it. Raises `WrongBase` unless it was trained on that very base."""
    label, facts = f"model:{adapter.name}@{adapter.number}", adapter.content.get("adapter")
    if not facts:
        raise InvalidInput(f"{label} is no adapter but a model of its own.")
    if facts["base_digest"] != base.digest:
        made_for = ((adapter.content.get("lineage") or {}).get("base") or {}).get("asset", "another model")
        raise WrongBase(
            f"{label} was trained on {made_for} sha256:{short_digest(facts['base_digest'])}, "
            f"not on model:{base.name}@{base.number} sha256:{short_digest(base.digest)}.",
            hint="Serve it on its own base, or train it again on this one.",
            base=facts["base_digest"],
            given=base.digest,
        )
    if ADAPTER_GGUF not in adapter.artefacts:
        raise UnsupportedModel(
            f"{label} is of kind {facts['kind']}, which engines only serve merged.",
            hint='Register it with form = "merged".',
        )
    return ServedAdapter(
        name=adapter.name,
        version=stamp(adapter),
        digest=adapter.digest,
        gguf=files.path(adapter, ADAPTER_GGUF),
    )


def load_served_renderer(model: ServedModel) -> Renderer:
    """Return the renderer of a served model. Raises `DigestMismatch` if its tokenizer is another one."""
    return load_renderer(model.renderer, model.tokenizer)
