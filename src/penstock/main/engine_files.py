"""Engine processes as files: what lies in `HOME/run/engines` is what the supervisor keeps running.

One file a process, written whole or not at all. A new file starts a process, a file that is gone ends one; what the
process serves stands in its file too. `HOME/run/shared.json` says which of them hosts the models that `prod` names.
"""

import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from penstock.base.files import write_atomic
from penstock.deploy.deployments.types import SeatSpec
from penstock.main.children import ChildSpec
from penstock.main.errors import PortTaken
from penstock.main.instance import SHARED_FILE
from penstock.main.ports import choose_port
from penstock.spec.home import Home

SHARED = "engine"
"""The child that hosts the models that `prod` names, and the beginning of its successors' names (`engine~2` …)."""
RETRY_S = 600.0
"""Before what its process, not itself, kept from being served is tried again."""
_LOOPBACK = "127.0.0.1"
_UNREAD = (0, 0, 0)
"""The stamp of no file."""
_log = logging.getLogger("penstock.supervisor")


class EngineFile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One engine process."""

    child: str
    port: int
    role: Literal["shared", "deployment"] = "deployment"
    models: dict[str, int] | None = None
    """Of the shared engine: the numbers of the versions it hosts, by name; None: those that `prod` names when it
    starts, which it then writes down here, so that it hosts the same when it is started again."""
    seat: SeatSpec | None = None
    """Of a deployment's."""
    command: tuple[str, ...] = ()
    """Of a program that is not ours (vLLM)."""
    environ: dict[str, str] = {}


class SharedEngine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which process hosts the models that `prod` names."""

    child: str = SHARED
    port: int
    last: int = 1
    """Number of the last process that was to be it: names are not used again, for one that ends still has its own."""
    refused: dict[str, int] = {}
    """Versions that `prod` names but that are not served, by model."""
    reasons: dict[str, str] = {}
    """Why, by model."""
    again_ns: dict[str, int] = {}
    """When those are tried again whose process, not they themselves, was at fault."""
    leaving: dict[str, int] = {}
    """Processes that were it before, and when the snapshot without them was written (0: not yet)."""


def engines_folder(home: Home) -> Path:
    """Return where the files lie."""
    return home.run / "engines"


def write_engine(home: Home, file: EngineFile) -> None:
    """Put a file in place."""
    folder = engines_folder(home)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomic(folder / f"{file.child}.json", msgspec.json.encode(file), mode=0o600)


def remove_engine(home: Home, child: str) -> None:
    """Take a file away; nothing happens where there is none."""
    (engines_folder(home) / f"{child}.json").unlink(missing_ok=True)


def read_engine(home: Home, child: str) -> EngineFile | None:
    """Return a file, or None where there is none that can be read."""
    return _read(engines_folder(home) / f"{child}.json")


def list_engines(home: Home) -> list[EngineFile]:
    """Return all files by name."""
    return [file for path in _paths(home) if (file := _read(path)) is not None]


def engine_url(home: Home, child: str) -> str | None:
    """Return the base address of an engine that is meant to run, ending in `/v1`; None where there is none."""
    file = read_engine(home, child)
    return None if file is None else f"http://{_LOOPBACK}:{file.port}/v1"


def find_port() -> int:
    """Return a loopback port that is free at this moment."""
    return choose_port(_LOOPBACK, 0, option="--engine-port")


def child_spec(home: Home, file: EngineFile) -> ChildSpec:
    """Return how the process of a file is started."""
    command = file.command or (
        *(sys.executable, "-m", "penstock.cli", "engine", "--home", str(home.root)),
        *("--port", str(file.port), "--serve", file.child),
    )
    return ChildSpec(
        name=file.child,
        command=command,
        host=_LOOPBACK,
        port=file.port,
        ready_path="/health",
        is_vital=False,
        environ=file.environ,
    )


class EngineSpecs:
    """Gives the supervisor the processes that are meant to run. A file is read again when it has changed."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._known: dict[Path, tuple[tuple[int, int, int], ChildSpec | None]] = {}

    def __call__(self) -> Sequence[ChildSpec]:
        """Return the specs by name of the file."""
        found: dict[Path, tuple[tuple[int, int, int], ChildSpec | None]] = {}
        for path in _paths(self._home):
            try:
                stat = path.stat()
            except OSError:  # gone this moment
                continue
            stamp = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
            known = self._known.get(path)
            if known is not None and known[0] == stamp:
                found[path] = known
                continue
            try:
                found[path] = stamp, self._spec(path)
            except FileNotFoundError:
                continue
            except OSError as error:  # such as too many open files: what runs goes on, and it is read again
                _log.warning(
                    "an engine's file could not be read", extra={"path": str(path), "reason": str(error)}
                )
                if known is not None:
                    found[path] = _UNREAD, known[1]
        self._known = found
        return [spec for _, spec in found.values() if spec is not None]

    def _spec(self, path: Path) -> ChildSpec | None:
        """Return its process; raise `OSError` when the file could not be read this time."""
        try:
            file = msgspec.json.decode(path.read_bytes(), type=EngineFile)
        except msgspec.DecodeError:
            file = None
        if file is None or file.child != path.stem:
            _log.error("an engine's file cannot be read and is left out", extra={"path": str(path)})
            return None
        return child_spec(self._home, file)


def settle_engines(home: Home, shared_port: int) -> None:
    """Make the files fit a start: one shared engine at its port, deployments at ports that are free.

    The shared engine begins with what was proven and served last; what `prod` names otherwise is proven beside it.
    What was refused stays so, but for what may do better in a new process.
    """
    last = read_shared(home)
    hosted = None if last is None else read_engine(home, last.child)
    models = None if hosted is None else hosted.models
    refused = {} if last is None else last.refused
    for file in list_engines(home):
        if file.role == "shared":
            remove_engine(home, file.child)
        elif not _is_free(file.port):
            port = find_port()
            moved = tuple(str(port) if each == str(file.port) else each for each in file.command)
            write_engine(home, msgspec.structs.replace(file, port=port, command=moved))
    kept = {name: number for name, number in refused.items() if last and name not in last.again_ns}
    reasons = {name: why for name, why in (last.reasons if last else {}).items() if name in kept}
    write_shared(home, SharedEngine(port=shared_port, refused=kept, reasons=reasons))
    write_engine(home, EngineFile(child=SHARED, port=shared_port, role="shared", models=models))


def write_shared(home: Home, shared: SharedEngine) -> None:
    """Say which process is the shared engine."""
    write_atomic(_shared_path(home), msgspec.json.encode(shared), mode=0o600)


def read_shared(home: Home) -> SharedEngine | None:
    """Return which process is the shared engine; None where nobody said."""
    try:
        return msgspec.json.decode(_shared_path(home).read_bytes(), type=SharedEngine)
    except (OSError, msgspec.DecodeError):
        return None


def _shared_path(home: Home) -> Path:
    return home.run / SHARED_FILE


def _paths(home: Home) -> Iterator[Path]:
    try:
        yield from sorted(
            path
            for path in engines_folder(home).iterdir()
            if path.suffix == ".json" and not path.name.startswith(".")
        )
    except OSError:
        return


def _read(path: Path) -> EngineFile | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=EngineFile)
    except (OSError, msgspec.DecodeError):
        return None


def _is_free(port: int) -> bool:
    try:
        choose_port(_LOOPBACK, port, option="--engine-port")
    except PortTaken:
        return False
    return True
