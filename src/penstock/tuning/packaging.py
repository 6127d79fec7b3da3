"""From a Hugging Face folder to the content and files of a version: converted, proven, described. Registers nothing."""

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from penstock.base.digest import digest_file
from penstock.base.errors import CallerError
from penstock.providers.engines.types import SamplingPolicy
from penstock.spec.messages import Message
from penstock.tuning.cards import write_card
from penstock.tuning.convert.architectures import MAX_STOP_IDS, DecoderShape, read_json, read_shape
from penstock.tuning.convert.from_gguf import GgufWeights
from penstock.tuning.convert.gguf_file import Conversion, Precision, convert_folder
from penstock.tuning.convert.safetensors import Weights, find_weights
from penstock.tuning.errors import UnreadableModel, UnsupportedModel
from penstock.tuning.model_files import GGUF, ORIGINAL, RENDERER, TOKENIZER, list_original
from penstock.tuning.model_types import ModelLineage
from penstock.tuning.parity import ROUNDED, ParityReport, demand_parity, prove_parity
from penstock.tuning.parity_decoder import make_probe
from penstock.tuning.renderer import (
    GoldenVector,
    Renderer,
    RendererSpec,
    build_renderer,
    load_renderer,
    read_renderer_spec,
)
from penstock.tuning.sources import FetchedModel, Progress

GOLDEN_CONVERSATIONS: tuple[tuple[Message, ...], ...] = (
    (Message(role="user", content="Hello!"),),
    (
        Message(role="user", content="[1] Walk every day.\n[2] Drink water.\nQuestion: What should I drink?"),
        Message(role="assistant", content="[2] Drink water."),
        Message(role="user", content="Thanks. And <|end|> is only text, as is </s>."),
    ),
    (Message(role="user", content="Naïve café, 東京, 120/80 mmHg 🚰"),),
    (Message(role="user", content="Hello!"), Message(role="assistant", content="[1] Good day.")),
)
N_PROMPTS = 3
_ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True, kw_only=True)
class ModelPackage:
    """What will be a version: its content, and its files by artefact name."""

    content: dict[str, Any]
    files: Mapping[str, Path]


def package_model(
    fetched: FetchedModel,
    out: Path,
    *,
    name: str,
    precision: Precision,
    progress: Progress,
    lineage: ModelLineage | None = None,
    keep_original: bool = False,
) -> ModelPackage:
    """Convert and prove a Hugging Face folder; write the artefacts to `out` and return the version to be.

    `keep_original` keeps the folder's own files beside the GGUF, for training and for engines that read safetensors.
    Raises `ParityFailed` if the file does not answer as its source does.
    """
    folder = fetched.folder
    renderer = read_folder_renderer(folder)
    shape = read_shape(folder)
    stop_ids = read_stop_ids(shape, renderer) if isinstance(shape, DecoderShape) else ()
    progress(0.5, "converting")
    conversion = convert_folder(folder, out / GGUF, precision=precision, name=name, stop_ids=stop_ids or None)
    progress(0.6, "proving parity")
    report = prove_parity(folder, out / GGUF, precision=precision)
    demand_parity(report)
    write_renderer(renderer, folder / TOKENIZER, out)
    files = {file: out / file for file in (GGUF, TOKENIZER, RENDERER)}
    if keep_original and isinstance(shape, DecoderShape):
        files |= list_original(folder, find_weights(folder))
    content = _describe(fetched, conversion, report, renderer)
    if isinstance(shape, DecoderShape):
        content["stop_ids"] = list(stop_ids)
        content["probe"] = _probe(folder, out / GGUF, shape, content)
    kept = sum(path.stat().st_size for file, path in files.items() if file.startswith(ORIGINAL))
    content["formats"] = ["gguf", "safetensors"] if kept else ["gguf"]
    if kept:
        content["original_size_bytes"] = kept
    if lineage is not None:
        content["lineage"] = msgspec.to_builtins(lineage)
    return ModelPackage(content=content | {"card": write_card(name, content)}, files=files)


def _probe(folder: Path, gguf: Path, shape: DecoderShape, content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what a server of this version must say: by the source's weights, of a rounded file by its own."""
    prompts = [vector["ids"] for vector in content["golden"] if vector.get("mask") is None]
    fitting = [ids for ids in prompts if len(ids) < min(shape.context_length, 512)][:N_PROMPTS]
    if content["precision"] in ROUNDED:
        return make_probe(shape, dict(GgufWeights(gguf)), fitting)
    weights = Weights(folder)
    try:
        return make_probe(shape, dict(weights), fitting)
    finally:
        weights.close()


def read_folder_renderer(folder: Path) -> Renderer:
    """Return the renderer of a folder: its `renderer.json` where a checkout wrote one, else the folder's own template."""
    if (folder / RENDERER).is_file():
        return load_renderer(folder / RENDERER, folder / TOKENIZER)
    return build_renderer(read_renderer_spec(folder), (folder / TOKENIZER).read_bytes())


def write_renderer(renderer: Renderer, tokenizer: Path, out: Path) -> None:
    """Write `tokenizer.json` and `renderer.json` to `out`."""
    if tokenizer.resolve() != (out / TOKENIZER).resolve():
        shutil.copyfile(tokenizer, out / TOKENIZER)
    encoded = msgspec.json.format(msgspec.json.encode(renderer.spec), indent=2)
    (out / RENDERER).write_bytes(encoded)


def read_stop_ids(shape: DecoderShape, renderer: Renderer) -> tuple[int, ...]:
    """Return the ids that end a reply: those of the configuration, and what the template itself ends a turn with.

    Base models made into chat models often name only the end of a text, and then never stop (transformers, vLLM and
    llama.cpp each guess otherwise). Raises `UnsupportedModel` when there are more than the engine's file can hold.
    """
    found = dict.fromkeys((*shape.eos_ids, *renderer.stop_ids))
    if len(found) > MAX_STOP_IDS:
        raise UnsupportedModel(
            f"The model has {len(found)} end tokens; the engine knows at most {MAX_STOP_IDS}."
        )
    return tuple(found)


def make_golden(renderer: Renderer) -> tuple[GoldenVector, ...]:
    """Return the golden vectors of every sample conversation that the template takes."""
    found: list[GoldenVector] = []
    for conversation in GOLDEN_CONVERSATIONS:
        try:
            found += renderer.make_golden([conversation])
        except CallerError:
            if conversation is GOLDEN_CONVERSATIONS[0]:
                raise  # a template that refuses a plain question serves nobody
    return tuple(found)


def describe_signature(
    kind: str, renderer: Renderer, *, context_length: int, dims: int | None
) -> dict[str, Any]:
    """Return what a model takes and gives: kind, context, and of a template the roles and whether it knows tools."""
    signature: dict[str, Any] = {"kind": kind, "context_length": context_length}
    if kind == "chat":
        template = renderer.spec.chat_template or ""
        return signature | {
            "input": "messages",
            "output": "text",
            "roles": [role for role in _ROLES if _takes(renderer, role)],
            "tools": "tools" in template,
        }
    return signature | (
        {"input": "texts", "output": f"vector[{dims}]"}
        if kind == "embedding"
        else {"input": "pairs", "output": "score"}
    )


def _takes(renderer: Renderer, role: str) -> bool:
    """Whether the template writes what a message of this role says, rather than refusing or dropping it."""
    probe = "Probe 4711"
    message, question = Message(role=role, content=probe), Message(role="user", content="Hello!")  # type: ignore[arg-type]
    talks = {"system": [message, question], "user": [message], "assistant": [question, message, question]}
    try:
        return probe in renderer.render_text(talks.get(role, [question, message, question]))
    except CallerError:
        return False


def _describe(
    fetched: FetchedModel, conversion: Conversion, report: ParityReport, renderer: Renderer
) -> dict[str, Any]:
    is_chat = conversion.architecture != "bert"
    if is_chat and renderer.spec.chat_template is None:
        raise UnreadableModel("The model has no chat template, so messages cannot be rendered for it.")
    kind = "chat" if is_chat else "rerank" if conversion.is_reranker else "embedding"
    dims = None if is_chat else conversion.embedding_size
    return {
        "format": "gguf",
        "kind": kind,
        "architecture": conversion.architecture,
        "precision": conversion.precision,
        "n_parameters": conversion.n_parameters,
        "size_bytes": conversion.size_bytes,
        "context_length": conversion.context_length,
        "dims": dims,
        "sampling": msgspec.to_builtins(read_sampling(fetched.folder)),
        "signature": describe_signature(kind, renderer, context_length=conversion.context_length, dims=dims),
        "renderer_digest": renderer.digest,
        "golden": msgspec.to_builtins(make_golden(renderer)) if is_chat else [],
        "description": fetched.description,
        "license": fetched.license,
        "source": {
            "form": fetched.form,
            "reference": fetched.reference,
            "files": dict(conversion.sources),
            **fetched.facts,
        },
        "parity": report.as_evidence(),
    }


def read_sampling(folder: Path) -> SamplingPolicy:
    """Return the sampling policy in `generation_config.json`: greedy unless it says `do_sample`."""
    path = folder / "generation_config.json"
    if not path.is_file():
        return SamplingPolicy()
    config = read_json(path)
    is_sampled = bool(config.get("do_sample"))
    return SamplingPolicy(
        temperature=float(config.get("temperature") or 1.0) if is_sampled else 0.0,
        top_p=float(config.get("top_p") or 1.0) if is_sampled else 1.0,
        top_k=int(config.get("top_k") or 0) if is_sampled else 0,
        min_p=float(config.get("min_p") or 0.0) if is_sampled else 0.0,
        repeat_penalty=float(config.get("repetition_penalty") or 1.0),
        max_tokens=config.get("max_new_tokens"),
    )


def write_sampling(sampling: SamplingPolicy, stop_ids: Sequence[int], folder: Path) -> None:
    """Write `generation_config.json` so that `read_sampling` gives the same policy back."""
    config: dict[str, Any] = {
        "do_sample": sampling.temperature > 0,
        "repetition_penalty": sampling.repeat_penalty,
        "eos_token_id": list(stop_ids),
    }
    if sampling.temperature > 0:
        config |= {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k}
        config["min_p"] = sampling.min_p
    if sampling.max_tokens is not None:
        config["max_new_tokens"] = sampling.max_tokens
    (folder / "generation_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def write_tokenizer_config(spec: RendererSpec, context_length: int, folder: Path) -> None:
    """Write `tokenizer_config.json` with the template and special tokens of a renderer."""
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context_length,
        "clean_up_tokenization_spaces": False,
        **spec.special_tokens,
    }
    if spec.chat_template is not None:
        config["chat_template"] = spec.chat_template
    text = json.dumps(config, indent=2, ensure_ascii=False)
    (folder / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")


def write_manifest(folder: Path, *, name: str, content: Mapping[str, Any], files: Iterable[str]) -> Path:
    """Write `manifest.json` for `ensure_shipped`: name, content of the version, digest of each file."""
    manifest = {
        "name": name,
        "files": {file: digest_file(folder / file) for file in files},
        "content": dict(content),
    }
    path = folder / "manifest.json"
    path.write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path
