"""Sources that control is asked to read on its own machine: paths, which may not lead into the home, and names of hubs.

A path must be absolute, since nobody knows what another process takes for its folder.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from penstock.base.errors import InvalidInput
from penstock.datasets.errors import SourceRefused
from penstock.datasets.handbook import HANDBOOK, write_handbook
from penstock.datasets.hub import HubAccess, fetch_repository
from penstock.datasets.store import DatasetStore
from penstock.datasets.types import Tell

HUB = "hub:"


@contextmanager
def open_place(
    place: str, store: DatasetStore, *, private_root: Path | None, hub: HubAccess, tell: Tell | None
) -> Iterator[tuple[Path, str, str]]:
    """Yield a path, what it is called, and the kind of its provenance; raise `SourceRefused` or `InvalidInput`."""
    if place.startswith(HUB):
        with store.folder() as folder:
            pinned = fetch_repository(place.removeprefix(HUB), folder, hub, tell)
            yield folder, f"{HUB}{pinned}", "hub"
        return
    if place in HANDBOOK:
        with store.folder() as folder:
            yield write_handbook(folder, place), place, "file"
        return
    path, resolved = _resolve(place)
    if private_root is not None:
        home = private_root.resolve()
        if resolved.is_relative_to(home) or home.is_relative_to(resolved):
            raise SourceRefused(
                f"{place} lies in the home of this installation, which holds its keys, or around it.",
                hint="Copy what is wanted to another place, or upload it.",
            )
    yield resolved, path.name, "file"


def _resolve(place: str) -> tuple[Path, Path]:
    """Return the path that a text names, as it is written and as it leads; raise `InvalidInput` for what is none."""
    try:
        path = Path(place).expanduser()
        resolved = path.resolve()
        path.exists()
    except (OSError, ValueError, RuntimeError) as error:  # too long, with a zero in it, of nobody's home
        raise InvalidInput(
            f"{place[:200]!r} is no path: {error.strerror if isinstance(error, OSError) else error}.",
            hint="Name the whole path of the file or folder.",
        ) from error
    if not path.is_absolute():
        raise InvalidInput(
            f"{place!r} is no absolute path.", hint="Name the whole path of the file or folder."
        )
    return path, resolved
