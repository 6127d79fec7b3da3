"""Overwriting the free pages of an LMDB file: what was deleted stays readable in them until they are used again."""

from typing import Any

import lmdb

_SCRATCH = b"scratch"
_ROUND = 256
_ROUNDS = 4096


def overwrite_free_pages(env: Any) -> int:
    """Write over every free page of an environment that may be in use by others; return how many pages were written.

    The environment needs room for one more named database. Readers that have been at work for long keep pages from
    being free: their content is overwritten by whoever uses the page next.
    """
    page = env.stat()["psize"]
    filler = bytes(page - 32)  # with its header one page of its own
    scratch = env.open_db(_SCRATCH)
    _step(env)  # what the last transactions freed can be taken from the one after the next on
    _step(env)
    n_written = 0
    try:
        for _ in range(_ROUNDS):
            last = env.info()["last_pgno"]
            try:
                with env.begin(write=True) as transaction:
                    for number in range(n_written, n_written + _ROUND):
                        transaction.put(number.to_bytes(8, "big"), filler, db=scratch)
            except lmdb.MapFullError:
                break
            n_written += _ROUND
            if env.info()["last_pgno"] - last >= _ROUND // 2:  # hardly a free page was left
                break
    finally:
        with env.begin(write=True) as transaction:
            transaction.drop(scratch, delete=False)
    env.sync(True)
    return n_written


def _step(env: Any) -> None:
    """Commit a transaction that changes nothing of anybody's."""
    scratch = env.open_db(_SCRATCH)
    with env.begin(write=True) as transaction:
        transaction.put(b"step", b"1", db=scratch)
