"""Overwriting the free pages of an LMDB file: what was deleted stays readable in them until they are used again."""

from collections.abc import Sequence
from typing import Any

import lmdb

_SCRATCH = b"scratch"
_AT_ONCE = 256
_META_PAGES = 2


def overwrite_free_pages(env: Any, parts: Sequence[Any]) -> int:
    """Write over every free page of an environment that may be in use by others; return how many pages were written.

    `parts` are all of its named databases; it needs room for one more. Readers that have been at work for long keep
    pages from being free: their content is overwritten by whoever uses the page next.
    """
    page = env.stat()["psize"]
    filler = bytes(page - 32)  # with its header one page of its own
    scratch = env.open_db(_SCRATCH)
    for _ in range(2):  # what the last transactions freed can be taken from the one after the next on
        _step(env, scratch)
    n_free = env.info()["last_pgno"] + 1 - _META_PAGES - _count_used(env, [*parts, scratch])
    n_written = 0
    try:
        while n_written < n_free:
            with env.begin(write=True) as transaction:
                for number in range(n_written, min(n_written + _AT_ONCE, n_free)):
                    transaction.put(number.to_bytes(8, "big"), filler, db=scratch)
            n_written = min(n_written + _AT_ONCE, n_free)
    except lmdb.MapFullError:  # others took the room meanwhile, and with it free pages
        return n_written
    finally:
        with env.begin(write=True) as transaction:
            transaction.drop(scratch, delete=False)
    env.sync(True)
    return n_written


def _step(env: Any, scratch: Any) -> None:
    """Commit a transaction that changes nothing of anybody's."""
    with env.begin(write=True) as transaction:
        transaction.put(b"step", b"1", db=scratch)


def _count_used(env: Any, parts: Sequence[Any]) -> int:
    used = 0
    with env.begin() as transaction:
        for part in (None, *parts):
            stat = transaction.stat(part) if part is not None else env.stat()
            used += stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
    return used
