"""Which rows are trained on, which are held out: by their split, else by a number that follows from seed and group.

Rows of one group, and rows that ask the same, never land on different sides.
"""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

from penstock.spec.datasets import DatasetRow
from penstock.spec.tuning import DataPart

Side = Literal["train", "heldout"]


@dataclass(frozen=True, kw_only=True)
class SplitRule:
    """How the rows of one dataset are divided."""

    split: str | None = None
    """The only split to train on; None: every row that is not held out."""
    heldout: str | None = None
    share: float = 0.0
    """Held out of the rest, where no split is named."""
    seed: int = 0

    @property
    def needs_question(self) -> bool:
        """Whether what a row asks decides (where it has no group)."""
        return self.heldout is None and self.share > 0

    def side(self, row: DatasetRow, question_key: bytes) -> Side | None:
        """Return where a row belongs; None: nowhere. `question_key` is equal for rows that ask the same."""
        if self.heldout is not None and row.split == self.heldout:
            return "heldout"
        if self.split is not None and row.split != self.split:
            return None
        if not self.needs_question:
            return "train"
        return "heldout" if self.place(row, question_key) < self.share else "train"

    def place(self, row: DatasetRow, question_key: bytes) -> float:
        """Return the number that decides: rows below `share` are held out."""
        return place_of(row.group.encode() if row.group is not None else question_key, self.seed)


def rule_of(data: DataPart, seed: int) -> SplitRule:
    """Return the rule for the rows of `data.train`."""
    if data.eval is not None:
        return SplitRule(split=data.split, seed=seed)
    if data.eval_split is not None:
        return SplitRule(split=data.split, heldout=data.eval_split, seed=seed)
    return SplitRule(split=data.split, share=data.eval_share, seed=seed)


def rule_of_heldout(data: DataPart) -> SplitRule:
    """Return the rule for the rows of `data.eval`: all of them, or those of its split `data.eval_split`."""
    return SplitRule(split=data.eval_split)


def place_of(key: bytes, seed: int) -> float:
    """Return a number from 0 to 1 that follows from a key and a seed."""
    digest = blake2b(str(seed).encode() + b"\0" + key, digest_size=8).digest()
    return int.from_bytes(digest) / (1 << 64)
