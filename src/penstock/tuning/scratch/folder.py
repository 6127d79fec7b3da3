"""Makes the folder that training from scratch begins with: everything of a Hugging Face folder but the weights.

The tokenizer is trained on the rows themselves, or taken from another model together with its template. The trainer
draws the weights from `config.json` and the recipe's seed, so this folder and the seed are the whole origin of a model.
"""

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from penstock.base.errors import InvalidInput
from penstock.spec.tuning import ScratchPart
from penstock.tuning.errors import UnreadableModel
from penstock.tuning.renderer import Renderer, build_renderer, read_renderer_spec

BOS, PAD, SYSTEM, USER, ASSISTANT, TOOL, END = CONTROLS = (
    "<|bos|>",
    "<|pad|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|tool|>",
    "<|end|>",
)
CHAT_TEMPLATE = (
    "<|bos|>{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt is not defined or add_generation_prompt %}<|assistant|>{% endif %}"
)
"""One control token a role, one that ends each turn; earlier turns stay as they are whatever follows."""
_CLASSES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
MIN_VOCAB = 256 + len(CONTROLS)


class ScratchInvalid(InvalidInput):
    """The sizes of a model from scratch do not go together."""

    code = "PS-1764"


@dataclass(frozen=True, kw_only=True)
class ScratchFolder:
    """A folder without weights, ready for the trainer."""

    folder: Path
    renderer: Renderer
    stop_ids: tuple[int, ...]
    pad_id: int
    vocab_size: int
    """Rows of the embedding: what the tokenizer came to, which may be less than was asked for."""


def make_scratch_folder(
    part: ScratchPart, texts: Iterable[str], folder: Path, *, tokenizer_from: Path | None = None
) -> ScratchFolder:
    """Write `config.json`, `generation_config.json`, `tokenizer.json` and `tokenizer_config.json` to `folder`.

    `texts` are read once, and only when there is no `tokenizer_from` (a Hugging Face folder whose tokenizer and template are
    taken). The same texts in the same order give the same bytes. Raises `ScratchInvalid` for sizes that do not go together.
    """
    check_sizes(part)
    folder.mkdir(parents=True, exist_ok=True)
    if tokenizer_from is None:
        tokenizer = train_tokenizer(texts, part.vocab_size)
        _write_text(folder / "tokenizer.json", tokenizer.to_str())
        _write_json(folder / "tokenizer_config.json", _tokenizer_config(part))
    else:
        _copy_tokenizer(tokenizer_from, folder)
    spec = read_renderer_spec(folder)
    if spec.chat_template is None:
        raise UnreadableModel("The tokenizer that is to be taken over has no chat template.")
    data = (folder / "tokenizer.json").read_bytes()
    renderer = build_renderer(spec, data)
    tokenizer = Tokenizer.from_str(data.decode())
    ids = {name: tokenizer.token_to_id(text) for name, text in spec.special_tokens.items()}
    end = ids.get("eos_token")
    if end is None:
        raise UnreadableModel(
            "The tokenizer that is to be taken over names no token that ends a turn (eos_token)."
        )
    pad = ids.get("pad_token")
    pad = end if pad is None else pad
    size = max(tokenizer.get_vocab().values()) + 1
    _write_json(
        folder / "config.json", make_config(part, vocab_size=size, bos=ids.get("bos_token"), end=end, pad=pad)
    )
    _write_json(folder / "generation_config.json", _generation_config(ids.get("bos_token"), end, pad))
    return ScratchFolder(folder=folder, renderer=renderer, stop_ids=(end,), pad_id=pad, vocab_size=size)


def check_sizes(part: ScratchPart) -> None:
    """Raise `ScratchInvalid` where the sizes of a recipe cannot be a model."""
    n_kv_heads = part.n_kv_heads or part.n_heads
    if min(part.hidden_size, part.n_layers, part.n_heads, n_kv_heads, part.ffn_size, part.context_length) < 1:
        raise ScratchInvalid("A model from scratch has sizes of 1 at least.", param="scratch")
    if part.hidden_size % part.n_heads or (part.hidden_size // part.n_heads) % 2:
        raise ScratchInvalid(
            f"hidden_size {part.hidden_size} does not split into {part.n_heads} heads of even size.",
            hint="Make hidden_size a multiple of 2 x n_heads; 64 dimensions a head are usual.",
            param="scratch.hidden_size",
        )
    if part.n_heads % n_kv_heads:
        raise ScratchInvalid(
            f"n_heads {part.n_heads} is no multiple of n_kv_heads {n_kv_heads}.", param="scratch.n_kv_heads"
        )
    if part.tokenizer is None and part.vocab_size < MIN_VOCAB:
        raise ScratchInvalid(
            f"A vocabulary of {part.vocab_size} is too small: all bytes and the control tokens are {MIN_VOCAB}.",
            hint="512 to 4096 suit a small model.",
            param="scratch.vocab_size",
        )


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Return a byte-level BPE with GPT-2's split, trained on `texts`. Control tokens come first, then all bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(text, special=True, normalized=False) for text in CONTROLS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def make_config(part: ScratchPart, *, vocab_size: int, bos: int | None, end: int, pad: int) -> dict[str, Any]:
    """Return `config.json` as transformers reads it for this architecture."""
    head_dim = part.hidden_size // part.n_heads
    config: dict[str, Any] = {
        "architectures": [_CLASSES[part.architecture]],
        "model_type": part.architecture,
        "bos_token_id": bos,
        "eos_token_id": end,
        "pad_token_id": pad,
        "hidden_act": "silu",
        "hidden_size": part.hidden_size,
        "initializer_range": 0.02,
        "intermediate_size": part.ffn_size,
        "max_position_embeddings": part.context_length,
        "num_attention_heads": part.n_heads,
        "num_hidden_layers": part.n_layers,
        "num_key_value_heads": part.n_kv_heads or part.n_heads,
        "rms_norm_eps": 1e-5,
        "rope_theta": part.rope_theta,
        "tie_word_embeddings": part.tie_embeddings,
        "torch_dtype": "float32",
        "use_cache": True,
        "vocab_size": vocab_size,
    }
    if part.architecture == "llama":
        config |= {"attention_bias": False, "mlp_bias": False, "head_dim": head_dim, "rope_scaling": None}
    if part.architecture == "qwen2":
        config |= {"use_sliding_window": False}
    if part.architecture == "qwen3":
        config |= {"attention_bias": False, "head_dim": head_dim, "use_sliding_window": False}
    return config


def _tokenizer_config(part: ScratchPart) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": END,
        "pad_token": PAD,
        "unk_token": None,
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": part.context_length,
        "chat_template": CHAT_TEMPLATE,
    }


def _generation_config(bos: int | None, end: int, pad: int) -> dict[str, Any]:
    return {"bos_token_id": bos, "eos_token_id": end, "pad_token_id": pad, "do_sample": False}


def _copy_tokenizer(source: Path, folder: Path) -> None:
    for name in _TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    if not (folder / "tokenizer.json").is_file():
        raise UnreadableModel(f"{source.name} holds no tokenizer.json to take over.")


def _write_json(path: Path, content: dict[str, Any]) -> None:
    _write_text(path, json.dumps(content, indent=2) + "\n")


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
