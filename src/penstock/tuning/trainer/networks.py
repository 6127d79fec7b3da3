"""Networks: a base read from its folder or made from nothing, an adapter put on it, and both kept as safetensors.

transformers gives the architectures, PEFT the adapters. What goes into a checkpoint is only what is trained, under the
names that both libraries read. Weights are trained in float32; on a GPU with bf16 the arithmetic is bf16.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from .attention import ROWS, register_rows
from .checkpoints import write_text
from .faults import TrainingFault
from .run_spec import ALL_TARGETS, RunSpec, ScratchPart

ARCHITECTURES = ("llama", "qwen2", "qwen3")
"""Those that Penstock converts and serves (`tuning/convert`): a model that nothing could serve is not trained."""
WEIGHTS, ADAPTER_WEIGHTS, ADAPTER_CONFIG = (
    "model.safetensors",
    "adapter_model.safetensors",
    "adapter_config.json",
)
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")


@dataclass(frozen=True, kw_only=True)
class Network:
    """A model ready to be trained."""

    whole: Any
    """What is trained: the model, or PEFT's wrapping of it."""
    causal: Any
    """The model of transformers itself, with adapters inside if there are any."""
    is_adapter: bool
    device: torch.device
    is_bf16: bool
    reads_rows: bool = False
    """Whether rows are computed behind each other, without padding (`forwards`)."""

    @property
    def head(self) -> Any:
        return self.causal.lm_head

    @property
    def vocab_size(self) -> int:
        return int(self.causal.config.vocab_size)

    @property
    def context_length(self) -> int | None:
        length = getattr(self.causal.config, "max_position_embeddings", None)
        return int(length) if length else None

    def trained(self) -> dict[str, Any]:
        """Return the parameters that training moves, by name, each once."""
        return {name: value for name, value in self.whole.named_parameters() if value.requires_grad}

    def autocast(self) -> Any:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.is_bf16)


def pick_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def build_network(run: RunSpec) -> Network:
    """Return the network of a run as it is before its first step. Raises `TrainingFault` for what cannot be built."""
    device = pick_device()
    if run.method == "qlora" and device.type != "cuda":
        raise TrainingFault(
            "trainer", "qlora needs a CUDA GPU; this machine has none.", hint='Use method = "lora".'
        )
    torch.manual_seed(run.seed)
    causal = _make_from_nothing(run) if run.method == "scratch" else _read_base(run, device)
    causal.config.use_cache = False
    causal.to(device)
    wants = run.train.gradient_checkpointing
    if device.type == "cuda" if wants is None else wants:
        causal.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    whole = _add_adapter(causal, run) if run.adapter is not None else causal
    if run.adapter is None:
        # weights read from a file may lie at any address, and a sum's last bit may follow the address
        for value in causal.parameters():
            value.data = value.data.clone()
    is_bf16 = run.train.precision == "bf16" or (
        run.train.precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported()
    )
    return Network(
        whole=whole,
        causal=causal,
        is_adapter=run.adapter is not None,
        device=device,
        is_bf16=is_bf16,
        reads_rows=_reads_rows(causal, device),
    )


def _reads_rows(causal: Any, device: torch.device) -> bool:
    """Whether rows may lie behind each other: on a processor, where each layer looks at all that came before."""
    kinds = set(getattr(causal.config, "layer_types", None) or ())
    if device.type != "cpu" or not kinds <= {"full_attention"}:
        return False
    register_rows()
    causal.set_attn_implementation(ROWS)
    return True


def describe_scratch(part: ScratchPart, *, vocab_size: int, stop_ids: tuple[int, ...], pad_id: int) -> Any:
    """Return the configuration of a model from nothing."""
    from transformers import AutoConfig

    return AutoConfig.for_model(
        part.architecture,
        vocab_size=vocab_size,
        hidden_size=part.hidden_size,
        num_hidden_layers=part.n_layers,
        num_attention_heads=part.n_heads,
        num_key_value_heads=part.n_kv_heads or part.n_heads,
        head_dim=part.hidden_size // part.n_heads,
        intermediate_size=part.ffn_size,
        max_position_embeddings=part.context_length,
        rope_parameters={"rope_type": "default", "rope_theta": part.rope_theta},
        tie_word_embeddings=part.tie_embeddings,
        bos_token_id=None,
        eos_token_id=stop_ids[0] if stop_ids else None,
        pad_token_id=pad_id,
    )


def save_trained(network: Network) -> dict[str, Any]:
    """Return what a checkpoint holds of the network, as writers of files."""
    if network.is_adapter:
        tensors = adapter_tensors(network)
        config = network.whole.peft_config["default"]
        return {
            ADAPTER_WEIGHTS: lambda path: write_tensors(path, tensors),
            ADAPTER_CONFIG: lambda path: write_text(path, json.dumps(describe_adapter(config), indent=2)),
        }
    return {WEIGHTS: lambda path: write_tensors(path, model_tensors(network))}


def load_trained(network: Network, folder: Path) -> None:
    """Put a checkpoint's weights into the network, in place. Raises `TrainingFault` if a name is missing or unknown."""
    if network.is_adapter:
        own: Mapping[str, Tensor] = _adapter_parameters(network)
        saved = safetensors.torch.load_file(folder / ADAPTER_WEIGHTS)
    else:
        own = dict(network.causal.named_parameters())
        saved = safetensors.torch.load_file(folder / WEIGHTS)
    if unlike := sorted(set(own) ^ set(saved)):
        raise TrainingFault("data_changed", f"The checkpoint has other weights: {', '.join(unlike[:5])}.")
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(saved[name])


def model_tensors(network: Network) -> dict[str, Tensor]:
    """Return the weights under their names; a tied head is not repeated (`named_parameters` gives each once)."""
    return {name: value.detach() for name, value in network.causal.named_parameters()}


def adapter_tensors(network: Network) -> dict[str, Tensor]:
    """Return the adapter's weights under the names that PEFT's files have."""
    return {name: value.detach() for name, value in _adapter_parameters(network).items()}


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write one safetensors file."""
    ready = {name: value.detach().contiguous().cpu() for name, value in tensors.items()}
    safetensors.torch.save_file(ready, path, metadata={"format": "pt"})


def describe_adapter(config: Any) -> dict[str, Any]:
    """Return what `adapter_config.json` says, in an order that does not change from run to run."""
    told = config.to_dict()
    told["target_modules"] = sorted(told["target_modules"])
    told["inference_mode"] = True
    return {name: sorted(value) if isinstance(value, set) else value for name, value in sorted(told.items())}


def write_config(network: Network, base: Path, out: Path) -> None:
    """Write `config.json` of a trained model: the base's own, in the precision that is written."""
    source = base / "config.json"
    if source.is_file():
        config = json.loads(source.read_text(encoding="utf-8"))
    else:
        config = json.loads(network.causal.config.to_json_string(use_diff=False))
        config = {name: value for name, value in config.items() if value is not None}
        config["architectures"] = [type(network.causal).__name__]
    config.pop("torch_dtype", None)
    config |= {"dtype": "float32", "use_cache": True}
    write_text(out / "config.json", json.dumps(config, indent=2, sort_keys=True))


def copy_other_files(base: Path, out: Path) -> None:
    """Copy what lies beside the base's weights: tokenizer, template, generation defaults."""
    for path in sorted(base.iterdir()):
        is_weights = path.suffix == ".safetensors" or path.name.endswith(".safetensors.index.json")
        if path.is_file() and not is_weights and path.name != "config.json":
            shutil.copyfile(path, out / path.name)


def _make_from_nothing(run: RunSpec) -> Any:
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM

    assert run.scratch is not None
    folder = run.locate(run.model or "base")
    if (folder / "config.json").is_file():
        config = _read_config(folder)
    else:
        vocab_size = run.scratch.vocab_size
        if (tokenizer := folder / "tokenizer.json").is_file():
            vocab_size = Tokenizer.from_file(str(tokenizer)).get_vocab_size(with_added_tokens=True)
        config = describe_scratch(
            run.scratch, vocab_size=vocab_size, stop_ids=run.stop_ids, pad_id=run.pad_id
        )
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="sdpa")


def _read_config(folder: Path) -> Any:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    if config.model_type not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise TrainingFault(
            "trainer", f"The architecture {config.model_type!r} is not trained here; known: {known}."
        )
    return config


def _read_base(run: RunSpec, device: torch.device) -> Any:
    from transformers import AutoModelForCausalLM

    folder = run.locate(run.model or "base")
    if not (folder / "config.json").is_file():
        raise TrainingFault("trainer", f"The base is missing: {folder.name}/config.json is not there.")
    if pickles := sorted(path.name for kind in _PICKLES for path in folder.glob(kind)):
        raise TrainingFault("trainer", f"The base has weights as pickles, which are not read: {pickles[0]}.")
    config = _read_config(folder)
    settings: dict[str, Any] = {"dtype": torch.float32}
    if run.method == "qlora":
        settings = {"dtype": torch.bfloat16, "quantization_config": _four_bits(), "device_map": {"": device}}
    elif run.adapter is not None and device.type == "cuda":
        settings["dtype"] = torch.bfloat16  # the base does not move, so it needs no float32
    return AutoModelForCausalLM.from_pretrained(
        folder,
        config=config,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        attn_implementation="sdpa",
        **settings,
    )


def _four_bits() -> Any:
    import importlib.util

    from transformers import BitsAndBytesConfig

    if importlib.util.find_spec("bitsandbytes") is None:
        raise TrainingFault(
            "trainer", "qlora needs bitsandbytes in the training runtime.", hint="pip install bitsandbytes"
        )
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def _add_adapter(causal: Any, run: RunSpec) -> Any:
    """Put a fresh adapter on the base. No `modules_to_save`: engines refuse adapters that have some (vllm#9280)."""
    import peft

    assert run.adapter is not None
    targets = list(run.adapter.targets) or list(ALL_TARGETS)
    known = {name.rpartition(".")[2] for name, part in causal.named_modules() if isinstance(part, nn.Linear)}
    if missing := sorted(set(targets) - known):
        raise TrainingFault(
            "trainer", f"The base has no layers {', '.join(missing)}; it has {', '.join(sorted(known))}."
        )
    config = peft.LoraConfig(
        r=run.adapter.r,
        lora_alpha=run.adapter.alpha,
        lora_dropout=run.adapter.dropout,
        target_modules=targets,
        use_dora=run.method == "dora",
        task_type="CAUSAL_LM",
        bias="none",
    )
    whole = peft.get_peft_model(causal, config)
    # an adapter names its base by digest: a folder's name or a floating revision says nothing (peft#1567)
    base = run.base or {}
    named = whole.peft_config["default"]
    named.base_model_name_or_path = f"{base['asset']}@{base['number']}" if base else None
    named.revision = base.get("digest")
    return whole


def _adapter_parameters(network: Network) -> dict[str, Any]:
    """Trained parameters by the names of PEFT's files: without the adapter's own name in the middle."""
    found = {}
    for name, value in network.trained().items():
        plain = name.replace(".default", "")
        if "lora_magnitude_vector" in plain:
            plain = plain.removesuffix(".weight")
        found[plain] = value
    return found
