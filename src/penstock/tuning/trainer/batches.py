"""Which rows make up a step, and how they lie in one array: functions of seed and step alone, so resuming agrees.

A row's tokens are padded on the right, and a causal model does not see what comes later, so no mask is needed for
padding. Packed rows lie behind each other with positions that begin anew; attention is cut between them. On a processor
padding is not computed at all: `forwards` takes the rows out of their lines again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .row_files import Ids
from .row_files import Sequence as Row

IGNORED = -100
"""Target of a position that is not learned."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Sequences side by side, all of shape (n, width)."""

    ids: Ids
    targets: Ids
    """What each position is to say next; `IGNORED` where that is not learned."""
    positions: Ids
    segments: Ids
    """1, 2, … for the rows of a line, 0 for padding."""
    lengths: tuple[int, ...]
    """Of all rows, line by line."""
    is_packed: bool
    """Whether a line may hold more than one row."""
    n_tokens: int
    n_targets: int


def shuffle_rows(n_rows: int, *, seed: int, epoch: int) -> Ids:
    """Return the order of rows in an epoch."""
    return np.random.default_rng([seed, epoch]).permutation(n_rows)


def rows_of_step(step: int, n_rows: int, *, seed: int, size: int) -> Ids:
    """Return the rows of step `step` (from 0), `size` of them; the last step of an epoch has those that are left."""
    per_epoch = -(-n_rows // size)
    epoch, place = divmod(step, per_epoch)
    return shuffle_rows(n_rows, seed=seed, epoch=epoch)[place * size : (place + 1) * size]


class StepOrder:
    """`rows_of_step` with the epoch's order kept: a shuffle of all rows for each step would cost more than the step."""

    def __init__(self, n_rows: int, *, seed: int, size: int) -> None:
        self._n_rows, self._seed, self._size = n_rows, seed, size
        self.per_epoch = -(-n_rows // size)
        self._epoch = -1
        self._order: Ids = np.empty(0, dtype=np.int64)

    def rows(self, step: int) -> Ids:
        epoch, place = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._order = shuffle_rows(self._n_rows, seed=self._seed, epoch=epoch)
            self._epoch = epoch
        return self._order[place * self._size : (place + 1) * self._size]


def split_step(rows: Ids, lengths: Ids, batch_size: int) -> list[Ids]:
    """Split a step's rows into the batches of one forward pass each, rows of like length together.

    The loss is weighted over the whole step, so which of its batches a row is in changes only how much padding there is.
    """
    by_length = rows[np.argsort(lengths[rows], kind="stable")]
    return [by_length[at : at + batch_size] for at in range(0, len(by_length), batch_size)]


def pack_rows(lengths: Ids, width: int) -> list[list[int]]:
    """Return groups of rows that together fit into `width` tokens: best fit, longest first, always the same.

    No row is cut: one over `width` is alone in its group.
    """
    groups: list[list[int]] = []
    rooms: dict[int, list[int]] = {}  # free tokens → groups with so many
    for row in np.argsort(-lengths, kind="stable").tolist():
        need = int(lengths[row])
        room = min((free for free, those in rooms.items() if free >= need and those), default=None)
        if room is None:
            groups.append([row])
            rooms.setdefault(width - need, []).append(len(groups) - 1)
        else:
            group = rooms[room].pop()
            groups[group].append(row)
            rooms.setdefault(room - need, []).append(group)
    return groups


def collate(rows: Sequence[Row], *, pad_id: int) -> Batch:
    """Lay rows side by side, one a line."""
    return collate_packed([[row] for row in rows], pad_id=pad_id, is_packed=False)


def collate_packed(lines: Sequence[Sequence[Row]], *, pad_id: int, is_packed: bool = True) -> Batch:
    """Lay several rows on each line. The first token of a row is nobody's target: no row foretells the next one."""
    width = max(sum(len(ids) for ids, _ in line) for line in lines)
    shape = (len(lines), width)
    ids = np.full(shape, pad_id, dtype=np.int64)
    targets = np.full(shape, IGNORED, dtype=np.int64)
    positions = np.zeros(shape, dtype=np.int64)
    segments = np.zeros(shape, dtype=np.int64)
    n_tokens = 0
    for number, line in enumerate(lines):
        at = 0
        for segment, (row_ids, row_mask) in enumerate(line, start=1):
            end = at + len(row_ids)
            ids[number, at:end] = row_ids
            targets[number, at : end - 1] = np.where(row_mask[1:] != 0, row_ids[1:], IGNORED)
            positions[number, at:end] = np.arange(end - at)
            segments[number, at:end] = segment
            at = end
        n_tokens += at
        if not is_packed:
            positions[number] = np.arange(width)
    return Batch(
        ids=ids,
        targets=targets,
        positions=positions,
        segments=segments,
        lengths=tuple(len(row_ids) for line in lines for row_ids, _ in line),
        is_packed=is_packed,
        n_tokens=n_tokens,
        n_targets=int(np.count_nonzero(targets != IGNORED)),
    )


def allow_attention(segments: Ids) -> Ids:
    """Return (n, 1, width, width): whether a position may look at another: same row, not later. Padding sees itself."""
    width = segments.shape[1]
    same = segments[:, :, None] == segments[:, None, :]
    causal = np.tril(np.ones((width, width), dtype=np.bool_))
    allowed: Ids = (same & causal)[:, None]
    return allowed


def iterate_chunks(n_rows: int, size: int) -> Iterator[range]:
    """Yield the rows 0 … n − 1 in chunks, the last one as short as it is."""
    for start in range(0, n_rows, size):
        yield range(start, min(start + size, n_rows))
