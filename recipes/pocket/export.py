"""Export: a checkpoint as a Hugging Face folder, and such a folder back as a model.

It knows the names and fields that `LlamaForCausalLM` expects and nothing about training.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from model import Decoder, ModelShape
from tokens import BOS, CHAT_TEMPLATE, END, PAD, Coder

N_MARKS = 32
RECIPE = Path(__file__).resolve().parent / "recipe.toml"


def export_folder(work: Path, folder: Path, *, averaged: bool = True) -> Path:
    """Write config, weights (float32), tokenizer and generation settings of `work/state.pt` to `folder`."""
    saved = torch.load(work / "state.pt", weights_only=True)
    sizes = tomllib.loads(RECIPE.read_text(encoding="utf-8"))["model"]
    return write_model(saved["average" if averaged else "model"], sizes, work / "tokenizer.json", folder)


def write_model(
    state: Mapping[str, torch.Tensor], sizes: Mapping[str, Any], tokenizer: Path, folder: Path
) -> Path:
    """Write weights of a `Decoder` of the given sizes (a recipe's `[model]`) as a Hugging Face folder and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {f"model.{name}": value.contiguous() for name, value in state.items()}
    coder = Coder.load(tokenizer, N_MARKS)
    shape = ModelShape(vocab_size=coder.size, **sizes)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    shutil.copyfile(tokenizer, folder / "tokenizer.json")
    ids = coder.control
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": ids[BOS],
        "eos_token_id": ids[END],
        "pad_token_id": ids[PAD],
        "head_dim": shape.head_size,
        "hidden_act": "silu",
        "hidden_size": shape.hidden_size,
        "initializer_range": 0.02,
        "intermediate_size": shape.ffn_size,
        "max_position_embeddings": shape.context_size,
        "mlp_bias": False,
        "num_attention_heads": shape.n_heads,
        "num_hidden_layers": shape.n_layers,
        "num_key_value_heads": shape.n_heads,
        "pretraining_tp": 1,
        "rms_norm_eps": shape.norm_eps,
        "rope_scaling": None,
        "rope_theta": shape.rope_theta,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "use_cache": True,
        "vocab_size": shape.vocab_size,
    }
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": END,
        "pad_token": PAD,
        "unk_token": None,
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": shape.context_size,
        "chat_template": CHAT_TEMPLATE,
    }
    generation = {
        "bos_token_id": ids[BOS],
        "eos_token_id": ids[END],
        "pad_token_id": ids[PAD],
        "do_sample": False,
        "max_new_tokens": 64,
    }
    for name, content in (
        ("config", config),
        ("tokenizer_config", tokenizer_config),
        ("generation_config", generation),
    ):
        (folder / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return folder


def load_folder(folder: Path) -> tuple[Decoder, Coder]:
    """Load a model and its tokenizer from a Hugging Face folder; raises if a tensor is missing or left over."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    shape = ModelShape(
        vocab_size=config["vocab_size"],
        hidden_size=config["hidden_size"],
        n_layers=config["num_hidden_layers"],
        n_heads=config["num_attention_heads"],
        ffn_size=config["intermediate_size"],
        context_size=config["max_position_embeddings"],
        rope_theta=config["rope_theta"],
        norm_eps=config["rms_norm_eps"],
    )
    model = Decoder(shape)
    weights = load_file(folder / "model.safetensors")
    model.load_state_dict({name.removeprefix("model."): value for name, value in weights.items()})
    return model.eval(), Coder.load(folder / "tokenizer.json", N_MARKS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--last", action="store_true", help="take the last weights instead of the averaged ones"
    )
    args = parser.parse_args()
    export_folder(args.work, args.folder, averaged=not args.last)


if __name__ == "__main__":
    main()
