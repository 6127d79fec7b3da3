"""By which snapshots the gateways of a machine work: what each worker leaves in a file, and the question over all.

What a snapshot no longer names may only end when no call is served by an older one. A worker says so itself: it counts
the calls that each of its tables serves.
"""

import os
from pathlib import Path

import msgspec


class Followed(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker says. Both are times at which snapshots were written."""

    newest_ns: int
    """Of the snapshot that new calls are served by."""
    oldest_ns: int
    """Of the oldest snapshot that a call under way is still served by."""


def write_followed(folder: Path, pid: int, followed: Followed) -> None:
    """Replace a worker's file. It is not brought to disk: after a crash of the machine there is no such worker."""
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{pid}"
    draft.write_bytes(msgspec.json.encode(followed))
    draft.replace(folder / str(pid))


def have_followed(ready: Path, folder: Path, snapshot_ns: int) -> bool:
    """Return whether no worker works by a snapshot older than this one, not even for a call under way.

    `ready` holds a file for each worker that serves. One that has not said anything yet has not followed. One that is
    only coming up has said so in `folder` before it read its snapshot, and counts too: it may be about to serve by it.
    """
    for name in {*_workers(ready), *_workers(folder)}:
        try:
            said = msgspec.json.decode((folder / name).read_bytes(), type=Followed)
        except (OSError, msgspec.DecodeError):
            return False
        if said.oldest_ns < snapshot_ns:
            return False
    return True


def _workers(ready: Path) -> list[str]:
    try:
        names = [path.name for path in ready.iterdir()]
    except OSError:
        return []
    return [name for name in names if name.isdigit() and _is_alive(int(name))]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
