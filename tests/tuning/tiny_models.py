"""Tiny models with random weights in Hugging Face layout, so that conversion and serving run for real."""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from penstock.tuning.convert.safetensors import Weights, write_safetensors

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' }}{{ message['content'] }}"
    "{{ '<|end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
CONTROL_TOKENS = ("<|pad|>", "<|bos|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
CORPUS = [
    "Walking every day keeps the heart strong and the mind calm.",
    "Drink water when you are thirsty; in hot weather a little more.",
    "Sleep seven to nine hours in a dark, cool and quiet room.",
    "Question: how long should I walk? [1] Thirty minutes a day is a good start. [2] Rest when tired.",
    "I do not know from these passages. Ask a clinician: 120 over 80 is an ordinary reading.",
]


QWEN_REGEX = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def train_bpe(folder: Path, *, vocab_size: int = 400, regex: str | None = None) -> Tokenizer:
    """A byte-level tokenizer of the corpus; with `regex` it cuts text as Qwen's do, else as GPT-2's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if regex is not None:
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(regex), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(CONTROL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_tokens([AddedToken(f"[{number}]", special=False, normalized=False) for number in (1, 2, 3)])
    tokenizer.save(str(folder / "tokenizer.json"))
    return tokenizer


def make_llama(folder: Path, **options: Any) -> Path:
    """A Llama; see `make_decoder`."""
    return make_decoder(folder, "llama", **options)


def make_decoder(
    folder: Path,
    architecture: Literal["llama", "qwen2", "qwen3"],
    *,
    seed: int = 7,
    tied: bool = True,
    n_kv_heads: int = 2,
    bias: bool = False,
    scale: float = 0.15,
    head_dim: int = 16,
    rms_eps: float = 1e-5,
    n_shards: int = 1,
) -> Path:
    """A decoder of 64 wide, 2 layers, 4 heads. `bias` is of Llama only: Qwen2 has them always, Qwen3 never."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = train_bpe(folder, regex=None if architecture == "llama" else QWEN_REGEX)
    vocab, hidden, ffn, layers, heads = tokenizer.get_vocab_size() + 5, 64, 96, 2, 4
    family = {"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3"}[architecture]
    config: dict[str, Any] = {
        "architectures": [f"{family}ForCausalLM"],
        "model_type": architecture,
        "hidden_size": hidden,
        "intermediate_size": ffn,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": n_kv_heads,
        "head_dim": head_dim,
        "vocab_size": vocab,
        "max_position_embeddings": 256,
        "rms_norm_eps": rms_eps,
        "hidden_act": "silu",
        "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
        "tie_word_embeddings": tied,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    if architecture != "qwen2":
        config["attention_bias"] = bias
    biased = {"llama": "qkvo" if bias else "", "qwen2": "qkv", "qwen3": ""}[architecture]
    rng = np.random.default_rng(seed)

    def draw(*size: int) -> Any:
        return (rng.standard_normal(size) * scale).astype(np.float32)

    tensors = {"model.embed_tokens.weight": draw(vocab, hidden) * 4, "model.norm.weight": 1 + draw(hidden)}
    if not tied:
        tensors["lm_head.weight"] = draw(vocab, hidden)
    for layer in range(layers):
        at = f"model.layers.{layer}."
        for name, rows, columns in (
            ("self_attn.q_proj", heads * head_dim, hidden),
            ("self_attn.k_proj", n_kv_heads * head_dim, hidden),
            ("self_attn.v_proj", n_kv_heads * head_dim, hidden),
            ("self_attn.o_proj", hidden, heads * head_dim),
            ("mlp.gate_proj", ffn, hidden),
            ("mlp.up_proj", ffn, hidden),
            ("mlp.down_proj", hidden, ffn),
        ):
            tensors[f"{at}{name}.weight"] = draw(rows, columns)
            if name.startswith("self_attn") and name[10] in biased:
                tensors[f"{at}{name}.bias"] = draw(rows)
        if architecture == "qwen3":
            for name in ("q_norm", "k_norm"):
                tensors[f"{at}self_attn.{name}.weight"] = 1 + draw(head_dim)
        tensors[f"{at}input_layernorm.weight"] = 1 + draw(hidden)
        tensors[f"{at}post_attention_layernorm.weight"] = 1 + draw(hidden)
    write_shards(folder, tensors, n_shards)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 2, "temperature": 0.0}))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "bos_token": "<|bos|>",
                "eos_token": "<|end|>",
                "pad_token": "<|pad|>",
                "chat_template": CHAT_TEMPLATE,
                "model_max_length": 256,
            }
        )
    )
    return folder


def write_shards(folder: Path, tensors: dict[str, Any], n_shards: int) -> None:
    """Write one file, or several with their index, as large models come."""
    if n_shards == 1:
        write_safetensors(folder / "model.safetensors", tensors)
        return
    where: dict[str, str] = {}
    for shard in range(n_shards):
        file = f"model-{shard + 1:05d}-of-{n_shards:05d}.safetensors"
        part = {name: tensors[name] for name in list(tensors)[shard::n_shards]}
        write_safetensors(folder / file, part)
        where |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))


def make_bert(folder: Path, *, seed: int = 11) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=300, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_truncation(16)  # as the MiniLM files have it: must not reach serving
    tokenizer.enable_padding(length=16)
    tokenizer.save(str(folder / "tokenizer.json"))
    vocab, hidden, ffn, layers, heads = tokenizer.get_vocab_size(), 32, 64, 2, 4
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": hidden,
        "intermediate_size": ffn,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 64,
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "type_vocab_size": 2,
        "vocab_size": vocab,
    }
    rng = np.random.default_rng(seed)

    def draw(*size: int) -> Any:
        return (rng.standard_normal(size) * 0.2).astype(np.float32)

    tensors = {
        "embeddings.word_embeddings.weight": draw(vocab, hidden),
        "embeddings.position_embeddings.weight": draw(64, hidden),
        "embeddings.token_type_embeddings.weight": draw(2, hidden),
        "embeddings.LayerNorm.weight": 1 + draw(hidden),
        "embeddings.LayerNorm.bias": draw(hidden),
        "pooler.dense.weight": draw(hidden, hidden),
        "pooler.dense.bias": draw(hidden),
    }
    for layer in range(layers):
        at = f"encoder.layer.{layer}."
        for name, rows, columns in (
            ("attention.self.query", hidden, hidden),
            ("attention.self.key", hidden, hidden),
            ("attention.self.value", hidden, hidden),
            ("attention.output.dense", hidden, hidden),
            ("intermediate.dense", ffn, hidden),
            ("output.dense", hidden, ffn),
        ):
            tensors[f"{at}{name}.weight"] = draw(rows, columns)
            tensors[f"{at}{name}.bias"] = draw(rows)
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            tensors[f"{at}{name}.weight"] = 1 + draw(hidden)
            tensors[f"{at}{name}.bias"] = draw(hidden)
    write_safetensors(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]", "pad_token": "[PAD]"})
    )
    return folder


def make_ranker(folder: Path, *, seed: int = 12) -> Path:
    """A cross-encoder: `make_bert` with a head that makes one score of a pair."""
    make_bert(folder, seed=seed)
    weights = dict(read_all(folder))
    rng = np.random.default_rng(seed)
    tensors = {f"bert.{name}": value for name, value in weights.items()}
    tensors["classifier.weight"] = rng.standard_normal((1, 32)).astype(np.float32)
    tensors["classifier.bias"] = rng.standard_normal(1).astype(np.float32)
    write_safetensors(folder / "model.safetensors", tensors)
    config = json.loads((folder / "config.json").read_text())
    config |= {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "LABEL_0"}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def read_all(folder: Path) -> dict[str, Any]:
    weights = Weights(folder)
    try:
        return {name: np.array(weights[name]) for name in weights}
    finally:
        weights.close()
