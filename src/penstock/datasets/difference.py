"""How one version differs from another, by id, without holding either: ids and digests of the one, one pass over the other."""

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any

from penstock.datasets.id_table import IdTable
from penstock.datasets.pages import MAX_PAGE_BYTES, read_cursor
from penstock.datasets.rows import row_content
from penstock.datasets.stored import StoredRows
from penstock.datasets.types import DatasetDiff, RowChange
from penstock.spec.datasets import DatasetRow

MAX_LIMIT = 1000


def diff_rows(
    base: StoredRows, other: StoredRows, labels: tuple[str, str], *, cursor: str | None, limit: int
) -> DatasetDiff:
    """Return the difference: what changed and was added in the order of `other`, then what was removed."""
    start = read_cursor(cursor)
    limit = max(1, min(limit, MAX_LIMIT))
    ids, digests = IdTable(), array("Q")
    for place, row in enumerate(base.read()):
        ids.add(row.id, place)
        digests.append(_digest(row))
    seen = bytearray(len(digests))
    fields: Counter[str] = Counter()
    n_added = n_changed = n_listed = held = 0
    last, is_reordered = -1, False
    page: list[RowChange] = []
    for row in other.read():
        number = ids.find(row.id)
        if number is not None:
            seen[number] = 1
            is_reordered = is_reordered or number < last
            last = number
            if digests[number] == _digest(row):
                continue
        before = None if number is None else base.get(number)
        change = _compare(before, row)
        n_changed += before is not None
        n_added += before is None
        fields.update(change.fields)
        if start <= n_listed < start + limit and held < MAX_PAGE_BYTES:
            page.append(change)
            held += len(row_content(row)) + (0 if before is None else len(row_content(before)))
        n_listed += 1
    n_removed = len(seen) - sum(seen)
    if n_listed + n_removed > start and len(page) < limit and held < MAX_PAGE_BYTES:
        skip = max(0, start - n_listed)
        gone = _removed(base, seen, skip, limit - len(page))
        for row in gone:
            page.append(RowChange(id=row.id, kind="removed", before=row))
            held += len(row_content(row))
            if held >= MAX_PAGE_BYTES:
                break
    end = start + len(page)
    return DatasetDiff(
        base=labels[0],
        other=labels[1],
        n_added=n_added,
        n_removed=n_removed,
        n_changed=n_changed,
        n_same=sum(seen) - n_changed,
        is_reordered=is_reordered,
        fields_changed=dict(fields.most_common()),
        changes=page,
        next_cursor=str(end) if end < n_listed + n_removed else None,
    )


def list_changed(before: DatasetRow, after: DatasetRow) -> list[str]:
    """Return what differs between two rows of one id: names of fields, `split`, `group`, `tags`, `metadata.KEY`."""
    names = _differing(before.fields, after.fields)
    names += [name for name in ("split", "group", "tags") if getattr(before, name) != getattr(after, name)]
    return names + [f"metadata.{name}" for name in _differing(before.metadata, after.metadata)]


def _compare(before: DatasetRow | None, after: DatasetRow) -> RowChange:
    if before is None:
        return RowChange(id=after.id, kind="added", after=after)
    return RowChange(
        id=after.id, kind="changed", fields=list_changed(before, after), before=before, after=after
    )


def _differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    absent = object()
    names = list(dict.fromkeys((*before, *after)))
    return [name for name in names if before.get(name, absent) != after.get(name, absent)]


def _removed(base: StoredRows, seen: bytearray, skip: int, limit: int) -> Iterator[DatasetRow]:
    number = -1
    while limit > 0 and (number := seen.find(0, number + 1)) >= 0:
        if skip:
            skip -= 1
            continue
        limit -= 1
        yield base.get(number)


def _digest(row: DatasetRow) -> int:
    return int.from_bytes(blake2b(row_content(row), digest_size=8).digest())
