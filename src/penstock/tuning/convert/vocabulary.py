"""Turns a `tokenizer.json` into the vocabulary of a GGUF file.

Only structure decides: the upstream converter recognises pre-tokenizers by hashing a test string, so it
knows no tokenizer that was trained at home. Here the regular expressions themselves are compared. Engines
are always sent token ids, so this vocabulary decodes; that it also encodes alike is measured by `parity.py`.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock.tuning.errors import UnreadableModel, UnsupportedModel

# values of gguf.TokenType, named here so that reading a vocabulary needs no gguf
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED = 1, 2, 3, 4, 5

_LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_BY_REGEX = {_LLAMA3: "llama-bpe", _QWEN2: "qwen2", _GPT2: "gpt-2"}


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The tokens in id order with their GGUF types, and what the engine's own tokenizer would need."""

    model: str
    """`gpt2` for byte-level BPE, `bert` for WordPiece."""
    pre: str
    tokens: tuple[str, ...]
    types: tuple[int, ...]
    merges: tuple[str, ...]
    unk_id: int | None = None


def read_vocabulary(path: Path, *, size: int) -> Vocabulary:
    """Return the vocabulary of a `tokenizer.json`, padded with unused tokens to `size` (rows of the embedding).

    Raises `UnreadableModel` for a damaged file and `UnsupportedModel` for other kinds of tokenizer.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        model = data["model"]
        kind = model.get("type") or ("BPE" if "merges" in model else None)
        vocab: dict[str, int] = model["vocab"]
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise UnreadableModel(f"Cannot read the tokenizer {path.name}: {error!r}.") from error
    added = {int(item["id"]): item for item in data.get("added_tokens") or []}
    if kind == "BPE":
        return _read_bpe(data, vocab, added, size)
    if kind == "WordPiece":
        return _read_wordpiece(data, vocab, added, size)
    raise UnsupportedModel(
        f"The tokenizer is of type {kind}; this converter reads BPE (byte level) and WordPiece."
    )


def _read_bpe(data: Any, vocab: dict[str, int], added: dict[int, Any], size: int) -> Vocabulary:
    if data["model"].get("byte_fallback"):
        raise UnsupportedModel(
            "The tokenizer is BPE with byte fallback (SentencePiece); only byte-level BPE is read."
        )
    pre = _name_pre_tokenizer(data.get("pre_tokenizer"))
    tokens, types = _lay_out(vocab, added, size)
    merges = tuple(
        merge if isinstance(merge, str) else " ".join(merge) for merge in data["model"].get("merges") or []
    )
    return Vocabulary(model="gpt2", pre=pre, tokens=tokens, types=types, merges=merges)


def _read_wordpiece(data: Any, vocab: dict[str, int], added: dict[int, Any], size: int) -> Vocabulary:
    prefix = data["model"].get("continuing_subword_prefix", "##")
    unknown = data["model"].get("unk_token", "[UNK]")
    tokens, types = _lay_out(vocab, added, size)

    def phantom(token: str, kind: int) -> str:
        # llama.cpp marks the start of a word, WordPiece its continuation
        if kind == CONTROL:
            return token
        return token.removeprefix(prefix) if token.startswith(prefix) else f"\u2581{token}"

    return Vocabulary(
        model="bert",
        pre="default",
        tokens=tuple(phantom(token, kind) for token, kind in zip(tokens, types, strict=True)),
        types=types,
        merges=(),
        unk_id=vocab.get(unknown),
    )


def _lay_out(
    vocab: dict[str, int], added: dict[int, Any], size: int
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    by_id = {number: text for text, number in vocab.items()} | {
        key: item["content"] for key, item in added.items()
    }
    if by_id and max(by_id) >= size:
        raise UnreadableModel(
            f"The tokenizer has token id {max(by_id)}, but the embedding has {size} rows.",
            hint="The weights and tokenizer.json belong to different models.",
        )
    tokens, types = [], []
    for number in range(size):
        if number not in by_id:
            tokens.append(f"[PAD{number}]")
            types.append(UNUSED)
        else:
            tokens.append(by_id[number])
            types.append(
                NORMAL if number not in added else CONTROL if added[number]["special"] else USER_DEFINED
            )
    return tuple(tokens), tuple(types)


def _name_pre_tokenizer(value: Any) -> str:
    """Return llama.cpp's name of a byte-level pre-tokenizer."""
    steps = value["pretokenizers"] if value and value.get("type") == "Sequence" else [value] if value else []
    kinds = [step["type"] for step in steps]
    last = steps[-1] if steps else {}
    if kinds and kinds[-1] == "ByteLevel" and not last.get("add_prefix_space"):
        by_regex = last.get("use_regex", True)
        if kinds == ["ByteLevel"] and by_regex:
            return "gpt-2"
        if kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits") and by_regex:
            return "smollm"  # each digit alone, then the expression of GPT-2
        if kinds == ["Split", "ByteLevel"] and not by_regex and steps[0].get("behavior") == "Isolated":
            pattern = steps[0]["pattern"].get("Regex")
            if pattern in _BY_REGEX:
                return _BY_REGEX[pattern]
    raise UnsupportedModel(
        f"The pre-tokenizer {' + '.join(kinds) or 'none'} is not one the engine has.",
        hint="Known: ByteLevel (GPT-2), Digits + ByteLevel, and Split by the expression of Llama 3, Qwen 2 or "
        "GPT-2 + ByteLevel, each without a prefix space.",
    )
