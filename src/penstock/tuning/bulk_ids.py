"""Many plain conversations → ids and masks as arrays: what `training_ids` gives, without an object for each message.

Conversations whose roles stand in the same order have the same draft, so its steps become columns: the ids of each
content are looked up, joined by row, and masks are drawn for all rows at once. Taken are only conversations about which
there is nothing to tell; every other one is left to the way that looks at each by itself. So what is left out here costs
time and changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from penstock.spec.tuning import LossOn
from penstock.tuning.chat_template import ChatTemplate
from penstock.tuning.control_text import ControlText
from penstock.tuning.training_ids import Plan, Plans
from penstock.tuning.word_ids import ID_TYPE

_ID_BYTES = 4


class PlainTalk(NamedTuple):
    """Roles and contents of a conversation that ends with the assistant and has nothing else in it."""

    roles: tuple[str, ...]
    contents: list[str]
    """Each of them `Renderer.is_plain`."""


@dataclass(frozen=True, kw_only=True)
class Bulk:
    """The sequences of those conversations that were taken, one each, in order."""

    taken: NDArray[np.int64]
    """Their places among all that were given."""
    ids: NDArray[np.int32]
    """All sequences joined."""
    sizes: NDArray[np.int64]
    mask: NDArray[np.uint8]
    n_learnt: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """Some conversations with the same roles: their ids, and where in each its replies begin."""

    places: list[int]
    ids: list[bytes]
    begins: NDArray[np.int64]
    """A line for each conversation."""


def write_bulk(
    talks: Sequence[PlainTalk],
    template: ChatTemplate,
    text: ControlText,
    *,
    stops: Sequence[int],
    bos: int | None,
    loss_on: LossOn,
    max_length: int,
) -> Bulk:
    """Return the sequences of all conversations that are within `max_length`, learn something, end as they should."""
    copying = template.copying
    groups: dict[tuple[str, ...], list[int]] = {}
    for place, (roles, contents) in enumerate(talks):
        if copying is None or (copying.trims and any(each.strip() != each for each in contents)):
            continue
        groups.setdefault(roles, []).append(place)
    plans = Plans(template, text)
    found: list[tuple[Plan, list[int], list[list[str]]]] = []
    for roles, places in groups.items():
        turns = tuple([place for place, role in enumerate(roles) if role == "assistant"])
        plan = plans.find(roles, turns[-1:] if loss_on == "last_turn" else turns, is_whole=loss_on == "all")
        if plan is not None:
            found.append((plan, places, _columns_of(plan, [talks[place].contents for place in places])))
    heads = [head for plan, _, _ in found for _, head in plan.begins]
    known = text.encode_bytes([*heads, *(each for _, _, columns in found for one in columns for each in one)])
    rows = [_join(plan, places, columns, known) for plan, places, columns in found]
    return _mask(rows, len(talks), stops, bos, max_length, is_whole=loss_on == "all")


def _columns_of(plan: Plan, contents: list[list[str]]) -> list[list[str]]:
    """Return the plain texts of each step that is one; a step with no content in it has one text for all."""
    columns: list[list[str]] = []
    for step in plan.steps:
        if isinstance(step, int):
            columns.append([each[step] for each in contents])
        elif isinstance(step, tuple) and any(isinstance(piece, int) for piece in step):
            columns.append(
                [
                    "".join([piece if isinstance(piece, str) else each[piece] for piece in step])
                    for each in contents
                ]
            )
        elif isinstance(step, tuple):
            columns.append(["".join(map(str, step))])
    return columns


def _join(plan: Plan, places: list[int], texts: list[list[str]], known: dict[str, bytes]) -> _Rows:
    n_rows, column = len(places), iter(texts)
    pieces: list[list[bytes] | repeat[bytes]] = []
    ends = np.zeros((len(plan.steps) + 1, n_rows), np.int64)
    fits = np.ones(n_rows, bool)
    heads = [(place, known[head]) for place, head in plan.begins if head]
    for number, step in enumerate(plan.steps):
        ids = [_pack(step)] if isinstance(step, list) else [known[each] for each in next(column)]
        ends[number + 1] = np.fromiter(map(len, ids), np.int64, len(ids))
        for place, head in heads:
            if place == number:
                fits &= np.array([each.startswith(head) for each in ids])  # else melted into the prompt
        pieces.append(repeat(ids[0], n_rows) if len(ids) < n_rows else ids)
    ends = np.cumsum(ends, axis=0) // _ID_BYTES
    begins = [ends[place] + len(known[head]) // _ID_BYTES for place, head in plan.begins]
    kept = np.flatnonzero(fits)
    joined = list(map(b"".join, zip(*pieces, strict=True))) or [b""] * n_rows
    return _Rows(
        places=[places[each] for each in kept],
        ids=[joined[each] for each in kept],
        begins=np.array(begins, np.int64).reshape(-1, n_rows).T[kept],
    )


def _mask(
    groups: list[_Rows],
    n_talks: int,
    stops: Sequence[int],
    bos: int | None,
    max_length: int,
    *,
    is_whole: bool,
) -> Bulk:
    joined = [b""] * n_talks
    for rows in groups:
        for place, each in zip(rows.places, rows.ids, strict=True):
            joined[place] = each
    ids = np.frombuffer(b"".join(joined), np.int32)
    sizes = np.fromiter(map(len, joined), np.int64, n_talks) // _ID_BYTES
    ends = np.cumsum(sizes)
    starts = ends - sizes
    is_stop = np.isin(ids, np.array(stops, np.int32))
    is_good = (sizes > 0) & (sizes <= max_length)
    if bos is not None:
        is_good[is_good] &= ~_begin_twice(ids, starts[is_good], sizes[is_good], bos)
    if is_whole:
        mask = np.ones(len(ids), np.uint8)
        is_good &= _sum_of(is_stop, starts, ends) > 0
    else:
        owners = [np.repeat(np.array(rows.places, np.int64), rows.begins.shape[1]) for rows in groups]
        owner = np.concatenate([np.empty(0, np.int64), *owners])
        begin = np.concatenate([np.empty(0, np.int64), *(rows.begins.ravel() for rows in groups)])
        mask, wrong = _draw(begin + starts[owner], owner, ends, is_stop)
        is_good[wrong] = False
    is_good &= _sum_of(mask.astype(bool) & ~is_stop, starts, ends) > 0
    taken = np.flatnonzero(is_good)
    if len(taken) < n_talks:
        is_kept = np.repeat(is_good, sizes)
        ids, kept = ids[is_kept], mask[is_kept]
    else:
        kept = mask
    return Bulk(
        taken=taken, ids=ids, sizes=sizes[taken], mask=kept, n_learnt=_sum_of(mask, starts, ends)[taken]
    )


def _draw(
    begin: NDArray[np.int64], owner: NDArray[np.int64], ends: NDArray[np.int64], is_stop: NDArray[np.bool_]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the mask, learnt from each beginning to the first stop, and whose replies do not end with one."""
    size = len(is_stop)
    order = np.lexsort((begin, owner))
    begin, owner = begin[order], owner[order]
    limit = ends[owner]
    is_same = owner[1:] == owner[:-1]
    limit[:-1][is_same] = begin[1:][is_same]
    places = np.append(np.flatnonzero(is_stop), size)
    end = places[np.searchsorted(places, np.minimum(begin, size))] + 1
    is_ended = end <= limit
    wrong = owner[~is_ended]
    begin, end = begin[is_ended], end[is_ended]
    steps = np.bincount(begin, minlength=size + 1) - np.bincount(end, minlength=size + 1)
    return np.cumsum(steps)[:size].astype(np.uint8), wrong


def _sum_of(
    values: NDArray[np.bool_] | NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the sum of the values of each row."""
    sums = np.concatenate([np.zeros(1, np.int64), np.cumsum(values, dtype=np.int64)])
    return np.asarray(sums[ends] - sums[starts], np.int64)


def _begin_twice(
    ids: NDArray[np.int32], starts: NDArray[np.int64], sizes: NDArray[np.int64], bos: int
) -> NDArray[np.bool_]:
    second = np.minimum(starts + 1, max(0, len(ids) - 1))
    return np.asarray((sizes > 1) & (ids[starts] == bos) & (ids[second] == bos))


def _pack(ids: list[int]) -> bytes:
    return np.array(ids, np.dtype(ID_TYPE)).tobytes()
