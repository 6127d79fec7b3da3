"""Copies that a backup makes on its way, in `run/backup`, and clearing away those that a killed one has left.

Whoever makes a backup holds a shared lock on the folder, so what lies there while nobody holds it belongs to nobody.
"""

import contextlib
import fcntl
import shutil
from collections.abc import Iterator
from pathlib import Path

from penstock.spec.home import Home

LOCK_NAME = "backup.lock"


def copies_folder(home: Home) -> Path:
    """Return where the copies lie."""
    return home.run / "backup"


@contextlib.contextmanager
def hold_copies(home: Home) -> Iterator[Path]:
    """Yield the folder, cleared of what others left; nothing is cleared away in it meanwhile."""
    clear_copies(home)
    folder = copies_folder(home)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (home.run / LOCK_NAME).open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield folder


def clear_copies(home: Home) -> int:
    """Remove what no backup under way has made; return how many files and folders that were."""
    folder = copies_folder(home)
    if not folder.exists():
        return 0
    with (home.run / LOCK_NAME).open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0
        left = list(folder.iterdir())
        for path in left:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
    return len(left)
