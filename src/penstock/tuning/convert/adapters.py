"""Low-rank adapters as PEFT writes them: read, checked against their base, and written as a GGUF adapter.

LoRA: W + s·B·A, with s = alpha / r, or alpha / √r where the configuration says rslora (Hu et al. 2021; Kalajdzievski
2023). DoRA (Liu et al. 2024) scales each row of that to a learnt length; engines do not know it, so it is merged.
Whatever this file does not know how to honour is refused by name: an adapter that is applied in part answers almost
right.
"""

import math
import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from penstock.base.digest import digest_file
from penstock.tuning.convert.architectures import DecoderShape, read_json
from penstock.tuning.convert.safetensors import SafetensorsFile, refuse_pickles
from penstock.tuning.convert.tensors import plan_decoder
from penstock.tuning.errors import UnreadableModel, UnsupportedModel

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
AdapterKind = Literal["lora", "rslora", "dora"]
_PREFIX = "base_model.model."
_PART = re.compile(
    r"(?P<module>.+)\.(?P<part>lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector)(\.weight)?"
)
_ROWS = re.compile(r"(?P<module>.+)\.token_adapter\.trainable_tokens_delta")
_PLAIN_STARTS = (True, False, "gaussian", "orthogonal", "eva")
"""Ways to begin an adapter that leave the base as it is; others (pissa, olora, corda, loftq) train on a changed base."""
_UNKNOWN_SETTINGS = (
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "lora_bias",
    "monteclora_config",
    "target_parameters",
    "use_bdlora",
    "use_qalora",
    "velora_config",
)


@dataclass(frozen=True, kw_only=True)
class LowRank:
    """What is added to one weight: `scale`·B·A, by the names of the tensors in the file."""

    a: str
    b: str
    rank: int
    scale: float
    magnitude: str | None = None
    """Lengths of the rows (DoRA)."""
    is_embedding: bool = False
    """An embedding's product is laid the other way round."""


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """A folder of PEFT, read but not loaded. Weights are named as in the base: `model.layers.0.….weight`."""

    folder: Path
    kind: AdapterKind
    r: int
    alpha: float
    targets: tuple[str, ...]
    low_rank: Mapping[str, LowRank]
    replaced: Mapping[str, str]
    """Weights of the base that are replaced whole (`modules_to_save`), by the names of the tensors."""
    rows: Mapping[str, tuple[tuple[int, ...], str]]
    """Rows of an embedding that are replaced (`trainable_token_indices`): which, and the name of the tensor."""
    base_digest: str | None
    """Of the version it was trained on, where the configuration says."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The files it was read from."""
        return (self.folder / CONFIG, self.folder / WEIGHTS)

    @property
    def is_servable(self) -> bool:
        """Whether an engine can lay it on its base; else it is merged."""
        plain = not any(each.magnitude or each.is_embedding for each in self.low_rank.values())
        return plain and not self.replaced and not self.rows

    def open(self) -> SafetensorsFile:
        """Return its tensors; a context manager."""
        return SafetensorsFile(self.folder / WEIGHTS)


def read_adapter(folder: Path, shape: DecoderShape) -> Adapter:
    """Return the adapter in a folder, every tensor of it understood and fitting a base of this shape.

    Raises `UnreadableModel` for a damaged one or one of another base, `UnsupportedModel` for settings that are not
    known here, `PickleRefused` for pickled weights.
    """
    if not (folder / WEIGHTS).is_file():
        refuse_pickles(str(folder), (path.name for path in folder.iterdir()) if folder.is_dir() else ())
        raise UnreadableModel(f"{folder} holds no {WEIGHTS}.")
    config = read_json(folder / CONFIG)
    _refuse_settings(config)
    known = {plan.source for plan in plan_decoder(shape)}
    with SafetensorsFile(folder / WEIGHTS) as file:
        sizes = {name: file.shape(name) for name in file.names}
    parts, replaced, row_names = _sort_tensors(sizes, known)
    low_rank = {weight: _read_pair(weight, found, sizes, config) for weight, found in parts.items()}
    if not low_rank and not replaced and not row_names:
        raise UnreadableModel("The adapter changes nothing.")
    revision = config.get("revision")
    return Adapter(
        folder=folder,
        kind="dora" if config.get("use_dora") else "rslora" if config.get("use_rslora") else "lora",
        r=int(config["r"]),
        alpha=float(config["lora_alpha"]),
        targets=tuple(sorted({weight.split(".")[-2] for weight in low_rank})),
        low_rank=low_rank,
        replaced=replaced,
        rows=_read_rows(row_names, sizes, config),
        base_digest=revision if isinstance(revision, str) and revision.startswith("sha256:") else None,
    )


def _refuse_settings(config: Mapping[str, Any]) -> None:
    if config.get("peft_type") != "LORA":
        raise UnsupportedModel(
            f"The adapter is of type {config.get('peft_type')}; LORA (with or without DoRA) is read."
        )
    if config.get("fan_in_fan_out"):
        raise UnsupportedModel("The adapter was made for weights laid the other way round (fan_in_fan_out).")
    start = config.get("init_lora_weights", True)
    if start not in _PLAIN_STARTS:
        raise UnsupportedModel(
            f"The adapter began as {start!r}, which changes the base it is laid on.",
            hint="Convert it to a plain LoRA first (PEFT: save_pretrained with path_initial_model_for_weight_conversion).",
        )
    for name in _UNKNOWN_SETTINGS:
        if config.get(name):
            raise UnsupportedModel(f"The adapter's setting {name} is not known here.")


def _sort_tensors(
    sizes: Mapping[str, tuple[int, ...]], known: set[str]
) -> tuple[dict[str, dict[str, str]], dict[str, str], dict[str, str]]:
    """Return parts by weight, replaced weights and replaced rows; refuse what is none of them or fits no base weight."""
    parts: dict[str, dict[str, str]] = {}
    replaced: dict[str, str] = {}
    rows: dict[str, str] = {}
    strangers = []
    for name in sizes:
        plain = name.removeprefix(_PREFIX).replace(
            ".base_layer.", "."
        )  # PEFT keeps embeddings beside their halves
        pair, row = _PART.fullmatch(plain), _ROWS.fullmatch(plain)
        if pair:
            parts.setdefault(f"{pair['module']}.weight", {})[pair["part"]] = name
        elif row:
            rows[f"{row['module']}.weight"] = name
        elif plain in known:
            replaced[plain] = name
        else:
            strangers.append(name)
    strangers += sorted((parts.keys() | rows.keys()) - known)
    if strangers:
        raise UnreadableModel(
            f"The adapter does not fit the base: {len(strangers)} of its tensors belong to nothing there, "
            f"such as {strangers[0]}.",
            tensors=strangers[:8],
        )
    return parts, replaced, rows


def _read_pair(
    weight: str, found: Mapping[str, str], sizes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any]
) -> LowRank:
    is_embedding = "lora_embedding_A" in found
    names = ("lora_embedding_A", "lora_embedding_B") if is_embedding else ("lora_A", "lora_B")
    try:
        a, b = (found[name] for name in names)
    except KeyError as error:
        raise UnreadableModel(f"The adapter holds only one half for {weight}: {error} is missing.") from error
    rank = sizes[a][0]
    if sizes[b][1] != rank:
        raise UnreadableModel(f"The adapter's halves for {weight} have ranks {rank} and {sizes[b][1]}.")
    if bool(config.get("use_dora")) != ("lora_magnitude_vector" in found):
        raise UnreadableModel(
            f"The adapter's configuration and its tensors for {weight} disagree about DoRA."
        )
    alpha = _alpha_of(weight.removesuffix(".weight"), config)
    return LowRank(
        a=a,
        b=b,
        rank=rank,
        scale=alpha / (math.sqrt(rank) if config.get("use_rslora") else rank),
        magnitude=found.get("lora_magnitude_vector"),
        is_embedding=is_embedding,
    )


def _alpha_of(module: str, config: Mapping[str, Any]) -> float:
    """Return a module's alpha: `alpha_pattern` maps ends of names (as expressions) to others than `lora_alpha`."""
    for pattern, alpha in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return float(alpha)
    return float(config["lora_alpha"])


def _read_rows(
    names: Mapping[str, str], sizes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any]
) -> dict[str, tuple[tuple[int, ...], str]]:
    told = config.get("trainable_token_indices")
    found = {}
    for weight, name in names.items():
        module = weight.removesuffix(".weight")
        wanted = told
        if isinstance(told, dict):
            wanted = next((told[key] for key in told if module == key or module.endswith(f".{key}")), None)
        if not isinstance(wanted, list) or len(wanted) != sizes[name][0]:
            raise UnreadableModel(f"The adapter does not say which rows of {weight} it replaces.")
        found[weight] = (tuple(map(int, wanted)), name)
    return found


def write_gguf_adapter(adapter: Adapter, shape: DecoderShape, out: Path, *, name: str) -> str:
    """Write the adapter as GGUF for llama.cpp and return the file's digest.

    Raises `UnsupportedModel` for what an engine cannot lay on a base: DoRA, replaced weights or rows.
    """
    import gguf  # half a second, for the processes that convert only

    if not adapter.is_servable:
        what = (
            "DoRA"
            if adapter.kind == "dora"
            else ", ".join((*adapter.replaced, *adapter.rows)) or "embeddings"
        )
        raise UnsupportedModel(
            f"Engines cannot lay this adapter on its base ({what}).",
            hint='Merge it: form = "merged". To teach new tokens, merge as well.',
        )
    plans = {plan.source: plan for plan in plan_decoder(shape)}
    with (
        tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as scratch,
        adapter.open() as file,
    ):
        draft = Path(scratch) / "draft.gguf"
        writer = gguf.GGUFWriter(draft, shape.architecture)
        writer.add_type("adapter")
        writer.add_name(name)
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", adapter.alpha)
        for weight, pair in _in_order(adapter.low_rank, plans):
            plan = plans[weight]
            b = file.read(pair.b)
            b = (plan.change(b) if plan.change else b) * np.float32(pair.scale * pair.rank / adapter.alpha)
            writer.add_tensor(f"{plan.target}.lora_a", np.ascontiguousarray(file.read(pair.a)))
            writer.add_tensor(f"{plan.target}.lora_b", np.ascontiguousarray(b, dtype=np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        draft.replace(out)
    return digest_file(out)


def _in_order(pairs: Mapping[str, LowRank], plans: Iterable[str]) -> list[tuple[str, LowRank]]:
    return [(weight, pairs[weight]) for weight in plans if weight in pairs]
