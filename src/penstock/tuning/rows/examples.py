"""One example for the trainer, and how it is brought to a length. Pure functions."""

import msgspec

from penstock.spec.tuning import Truncation
from penstock.tuning.training_ids import Rendered


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """One example for the trainer: columns of ids, all but `ids` for preference data."""

    row: int
    columns: tuple[list[int], ...]
    mask: bytes = b""
    label: bool | None = None

    @property
    def n_learnt(self) -> int:
        """Tokens on which the loss counts."""
        return self.mask.count(1) if self.mask else sum(map(len, self.columns[1:]))

    @property
    def size(self) -> int:
        """Tokens of its longest way through."""
        first, *rest = self.columns
        return len(first) + (max(map(len, rest)) if rest else 0)


def fit_length(
    example: Example, max_length: int, truncate: Truncation, *, bos: int | None, is_text: bool
) -> list[Example]:
    """Return an example that is too long as `truncate` wants it: without its beginning, in pieces, or not at all.

    No part of a reply is learnt without its beginning, or without anything before it: the model would learn to answer
    out of nothing. The last reply is never cut.
    """
    if truncate == "split" and is_text:
        ids = example.columns[0]
        pieces = [ids[start : start + max_length] for start in range(0, len(ids), max_length)]
        return [Example(row=example.row, columns=(one,), mask=b"\1" * len(one)) for one in pieces]
    if truncate != "keep_end":
        return []
    cut = _keep_end(example, example.size - max_length, bos)
    return [] if cut is None else [cut]


def split_reply(rendered: Rendered) -> tuple[list[int], list[int]]:
    """Return prompt and reply of a sequence whose last turn is learnt; what the template writes behind is left out."""
    begin, end = rendered.mask.index(1), rendered.mask.rindex(1) + 1
    return rendered.ids[:begin], rendered.ids[begin:end]


def prompt_of(example: Example) -> list[int]:
    """Return what the model is given before the last reply that it learns."""
    return example.columns[0][: _last_reply(example.mask)] if example.mask else example.columns[0]


def _keep_end(sequence: Example, over: int, bos: int | None) -> Example | None:
    """Return the sequence without its beginning; None where that would cut the last reply."""
    first, *rest = sequence.columns
    has_bos = bool(first) and first[0] == bos
    over += has_bos
    limit = len(first) if rest else _last_reply(sequence.mask)
    if over >= limit:
        return None
    start = first[:1] if has_bos else []
    learnt = sequence.mask[over:]
    in_reply = len(learnt) - len(learnt.lstrip(b"\1"))  # what is left of a reply that the cut went through
    mask = b"\0" * (len(start) + in_reply) + learnt[in_reply:] if sequence.mask else b""
    return Example(row=sequence.row, columns=(start + first[over:], *rest), mask=mask, label=sequence.label)


def _last_reply(mask: bytes) -> int:
    """Return where the last stretch of learnt tokens begins."""
    return mask.rfind(b"\0", 0, mask.rfind(b"\1") + 1) + 1
