"""How likely a model holds given texts: all of the vocabulary, at every place, from the engine that serves it.

The engine tells chances one place at a time, and only of listed tokens. Its states it tells for a whole text at once, so these are
asked for, and the head (the last multiplication, read from the same file) is done here: a text costs one pass, and everything in
between (quantised weights, kernels, cache) is the engine's own. That both ways agree is looked at in each measurement (`anchor`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from penstock.tuning.compress.types import RowChances
from penstock.tuning.errors import UnreadableModel

Array = NDArray[np.float32]
_CELLS = 4_000_000
"""Logits held at once: places times vocabulary."""


class StateReader(Protocol):
    """Reads a text and tells its states."""

    def states(self, ids: Sequence[int]) -> Array:
        """Return one row a token."""
        ...


@dataclass(frozen=True, kw_only=True)
class Marked:
    """A row as ids: `mask` is 1 where a token counts; the first one never does, since nothing stands before it."""

    row: str
    ids: tuple[int, ...]
    mask: tuple[int, ...]
    n_bytes: int
    """Of the text of the tokens that count."""
    group: str | None = None


@dataclass(frozen=True, kw_only=True)
class Window:
    """A part of a row that is read at once, and from where in the row its tokens count."""

    start: int
    end: int
    count_from: int


def split_windows(n_tokens: int, size: int) -> list[Window]:
    """Return windows over `n_tokens` places: each token counts once, after at least half a window where there is so much before it."""
    if size < 2:
        raise ValueError("a window holds two tokens at least")
    if n_tokens <= size:
        return [Window(start=0, end=n_tokens, count_from=1)] if n_tokens > 1 else []
    half = size // 2
    windows = [Window(start=0, end=size, count_from=1)]
    while windows[-1].end < n_tokens:
        counted = windows[-1].end
        end = min(counted + half, n_tokens)
        windows.append(Window(start=max(0, end - size), end=end, count_from=counted))
    return windows


def read_head(gguf_file: Path) -> Array:
    """Return the matrix from states to logits, one row a token, as the file holds it (dequantised)."""
    import gguf  # with its YAML it costs half a second, for the process that measures only

    try:
        tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(gguf_file).tensors}
    except (OSError, ValueError, IndexError) as error:
        raise UnreadableModel(f"{gguf_file.name} cannot be read: {error}.") from error
    held = tensors.get("output.weight") or tensors.get("token_embd.weight")
    if held is None:
        raise UnreadableModel(f"{gguf_file.name} has no head.")
    return np.ascontiguousarray(gguf.quants.dequantize(held.data, held.tensor_type), dtype=np.float32)


def log_chances(states: Array, head: Array) -> Array:
    """Return log-probabilities of the whole vocabulary after each state."""
    logits = states @ head.T
    logits -= logits.max(axis=1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return np.asarray(logits, dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class Reader:
    """One version's engine and head."""

    engine: StateReader
    head: Array

    def chances(self, ids: Sequence[int]) -> Iterator[tuple[int, Array]]:
        """Yield (place, log-probabilities after it and the ones behind), a portion at a time."""
        states = self.engine.states(ids)
        step = max(1, _CELLS // len(self.head))
        for start in range(0, len(states), step):
            yield start, log_chances(states[start : start + step], self.head)


@dataclass
class _Sums:
    n_tokens: int = 0
    nll: float = 0.0
    kl: float = 0.0
    n_same_top: int = 0


def measure_row(row: Marked, readers: Sequence[Reader], *, window: int, is_shared: bool) -> list[RowChances]:
    """Return what each reader holds of a row; the first is the one that the others diverge from.

    `is_shared`: all have the same tokens, so that divergences mean something.
    """
    sums = [_Sums() for _ in readers]
    ids, mask = np.array(row.ids), np.array(row.mask, dtype=bool)
    for part in split_windows(len(ids), window):
        wanted = np.flatnonzero(mask[part.count_from : part.end]) + part.count_from
        if not len(wanted):
            continue
        # the states before the tokens that count are all that is needed of them
        told = [reader.chances(ids[part.start : part.end].tolist()) for reader in readers]
        for portions in zip(*told, strict=True):
            start = part.start + portions[0][0]
            places = wanted[(wanted - 1 >= start) & (wanted - 1 < start + len(portions[0][1]))]
            if not len(places):
                continue
            logs = [rows[places - 1 - start] for _, rows in portions]
            _add(sums, logs, ids[places], is_shared)
    first = sums[0]
    return [
        RowChances(
            row=row.row,
            group=row.group,
            n_tokens=each.n_tokens,
            n_bytes=row.n_bytes,
            nll=each.nll,
            kl=each.kl if is_shared and each is not first else None,
            n_same_top=each.n_same_top if is_shared and each is not first else None,
        )
        for each in sums
    ]


def _add(sums: Sequence[_Sums], logs: Sequence[Array], targets: NDArray[Any], is_shared: bool) -> None:
    rows = np.arange(len(targets))
    base = logs[0].astype(np.float64)
    chances = np.exp(base) if is_shared and len(logs) > 1 else None
    for each, own in zip(sums, logs, strict=True):
        each.n_tokens += len(targets)
        each.nll -= float(own[rows, targets].sum(dtype=np.float64))
        if chances is not None and own is not logs[0]:
            each.kl += max(0.0, float((chances * (base - own)).sum()))
            each.n_same_top += int((own.argmax(axis=1) == base.argmax(axis=1)).sum())


def find_anchor(
    reader: Reader, rows: Sequence[Marked], tell: Callable[[Sequence[int]], dict[int, float]], *, window: int
) -> float | None:
    """Return the largest difference of a log-probability from the one that the engine tells by itself.

    `tell` returns the likeliest next tokens after ids. A few places are looked at, the ten likeliest tokens of each. None without rows.
    """
    differences = []
    for row in rows:
        ids = list(row.ids[:window])
        if len(ids) < 2:
            continue
        place = len(ids) - 2
        own = next(each for start, each in _reverse(reader, ids[:-1]) if start <= place)[-1]
        said = tell(ids[:-1])
        best = sorted(said, key=lambda token: -said[token])[:10]
        differences += [abs(float(own[token]) - said[token]) for token in best]
    return max(differences) if differences else None


def _reverse(reader: Reader, ids: Sequence[int]) -> list[tuple[int, Array]]:
    return list(reader.chances(ids))[::-1]
