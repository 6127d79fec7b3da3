"""The critical path of a trace: the spans that had to be shorter for the whole to be shorter.

From the end of a span backwards: the child that ended last was waited for; before it, the child that ended last before
that one began; and so on, within each of them alike. What no child covers is the span's own time (the method of CRISP,
Zhang et al., USENIX ATC 2022). A child that outlives its parent counts up to the parent's end.
"""

from collections.abc import Sequence, Set

NO_ROW = -1
OVERLAP = 1000
"""Children may overlap by this part of the trace (1/1000) and still count as one after the other: clocks are coarse."""


def find_critical_path(
    starts: Sequence[int],
    ends: Sequence[int],
    parents: Sequence[int],
    n_below: Sequence[int],
    *,
    skip: Set[int] = frozenset(),
) -> dict[int, int]:
    """Return the rows on the path, each with its own nanoseconds on it. Rows are parents first; `skip` are left out."""
    tops = [row for row, parent in enumerate(parents) if parent == NO_ROW and row not in skip]
    if not tops:
        return {}
    first, last = min(starts[row] for row in tops), max(ends[row] for row in tops)
    slack = (last - first) // OVERLAP
    own: dict[int, int] = {}
    waiting = [(NO_ROW, first, last)]
    while waiting:
        row, begin, until = waiting.pop()
        if row != NO_ROW and not n_below[row]:
            own[row] = max(0, until - begin)
            continue
        below = tops if row == NO_ROW else _list_children(row, n_below)
        if skip:
            below = [child for child in below if child not in skip]
        spent, at = 0, until
        for child in sorted(below, key=ends.__getitem__, reverse=True):
            ended = min(
                ends[child], until
            )  # one that outlives its parent was waited for until the parent's end
            if starts[child] >= at or ended > at + slack or ended <= begin:
                continue
            ended = min(ended, at)
            spent += at - ended
            at = max(starts[child], begin)
            waiting.append((child, at, ended))
            if at <= begin:
                break
        if row != NO_ROW:
            own[row] = max(0, spent + at - begin)
    return own


def _list_children(row: int, n_below: Sequence[int]) -> list[int]:
    found, child, end = [], row + 1, row + n_below[row] + 1
    while child < end:
        found.append(child)
        child += n_below[child] + 1
    return found
