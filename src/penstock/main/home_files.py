"""Creates a home's folders and the keys that are files. Idempotent, and safe when several processes do it at once."""

import fcntl
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from penstock.main.errors import HomeUnusable, NotRunning
from penstock.spec.home import Home


def create_home(home: Home) -> None:
    """Make the home's folders (private to this user) and its internal key.

    Raises `HomeUnusable` when the place cannot be used.
    """
    try:
        home.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (home.run, home.snapshot.parent, home.spool, home.logs, restart_folder(home)):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_private(home.root)
        write_once(home.internal_key, f"ps-{secrets.token_urlsafe(32)}\n")
    except OSError as error:
        raise HomeUnusable(
            f"{home.root} cannot be used as a home: {error.strerror}.",
            hint="Give another folder with --home or PENSTOCK_HOME.",
            path=str(error.filename or home.root),
        ) from error


def _make_private(folder: Path) -> None:
    """Shut out other users where the folder is ours and was made with wider rights; what lies below is then too."""
    found = folder.stat()
    if found.st_uid == os.geteuid() and found.st_mode & 0o077:
        folder.chmod(found.st_mode & 0o7700)


def read_internal_key(home: Home) -> str:
    """Return the key that the processes of this home use among themselves."""
    return _read_key(home.internal_key)


def read_admin_key(home: Home) -> str:
    """Return the owner's key."""
    return _read_key(home.admin_key)


def _read_key(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise NotRunning(
            f"{path} cannot be read: {error.strerror}.",
            hint="Start this home once with `penstock up`, or give the right one with --home.",
        ) from error


def write_once(path: Path, text: str, *, mode: int = 0o600) -> bool:
    """Create `path` with `text` unless it exists; return whether this call made it.

    Readers see the whole text or no file, and of several writers one wins.
    """
    if path.exists():
        return False
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(mode)
        os.link(name, path)
    except FileExistsError:
        return False
    finally:
        Path(name).unlink(missing_ok=True)
    return True


def restart_folder(home: Home) -> Path:
    """Return the folder in which a file named as a child asks the supervisor to restart that child."""
    return home.run / "restart"


def request_restart(home: Home, child: str) -> None:
    """Ask the supervisor, if there is one, to restart `child` so that it sees what has changed."""
    restart_folder(home).mkdir(parents=True, exist_ok=True)
    (restart_folder(home) / child).touch()


@contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path` among all processes; waits for its turn."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
