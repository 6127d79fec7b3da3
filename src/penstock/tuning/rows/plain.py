"""Rows that are conversations of roles and texts, with nothing to tell about them: they are made ready many at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from penstock.spec.datasets import DatasetRow
from penstock.tuning.bulk_ids import Bulk, PlainTalk
from penstock.tuning.rows.examples import Example, prompt_of


class PlainRow(NamedTuple):
    """A row that may turn out to need a second look."""

    number: int
    row: DatasetRow
    talk: PlainTalk


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """Sequences of one column with the rows that they are of, in the order of the rows."""

    ids: NDArray[np.int32]
    sizes: NDArray[np.int64]
    mask: NDArray[np.uint8]
    rows: NDArray[np.int64]


def merge(one: Sequences, other: Sequences) -> Sequences:
    """Return the sequences of both in the order of their rows; no row is in both."""
    rows = np.concatenate([one.rows, other.rows])
    sizes = np.concatenate([one.sizes, other.sizes])
    order = np.argsort(rows, kind="stable")
    starts, ordered = np.cumsum(sizes) - sizes, sizes[order]
    shifts = starts[order] - (np.cumsum(ordered) - ordered)
    places = np.repeat(shifts, ordered) + np.arange(int(ordered.sum()))
    return Sequences(
        ids=np.concatenate([one.ids, other.ids])[places],
        sizes=ordered,
        mask=np.concatenate([one.mask, other.mask])[places],
        rows=rows[order],
    )


def sample_prompts(bulk: Bulk, rows: Sequence[PlainRow], n_samples: int) -> list[dict[str, Any]]:
    """Return of the first rows the prompt of the last turn with the reply that it should get."""
    samples: list[dict[str, Any]] = []
    ends = np.cumsum(bulk.sizes)
    for (number, _, talk), end, size in zip(
        rows[:n_samples], ends.tolist(), bulk.sizes.tolist(), strict=False
    ):
        mask = bulk.mask[end - size : end].tobytes()
        example = Example(row=number, columns=(bulk.ids[end - size : end].tolist(),), mask=mask)
        samples.append({"prompt": prompt_of(example), "reference": talk.contents[-1], "row": number})
    return samples
