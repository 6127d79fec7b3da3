"""`python -m penstock.main.model_process HOME VERB ARGUMENTS`: works on weights, telling progress as JSON lines.

Verbs: `pull NAME SOURCE`, `export REFERENCE FOLDER`.
"""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from penstock.base.errors import PenstockError
from penstock.main.embedded import ModelRooms
from penstock.spec.home import Home


def main() -> int:
    """Do it, print, and return the exit code."""
    root, verb, *arguments = sys.argv[1:]
    rooms = ModelRooms(Home(root=Path(root)))
    try:
        result = _VERBS[verb](rooms, *arguments)
    except PenstockError as error:
        _say({"error": error.as_dict()})
        return error.exit_code
    _say({"result": result})
    return 0


def _pull(rooms: ModelRooms, name: str, source: str) -> dict[str, Any]:
    pulled = rooms.models.pull(
        name, source, progress=lambda share, text: _say({"progress": share, "message": text})
    )
    rooms.publish_snapshot()
    return {
        "model": f"model:{name}@{pulled.number}",
        "digest": pulled.digest,
        "is_new": pulled.is_new,
        "is_live": pulled.is_live,
        "parity": dict(pulled.parity),
    }


def _export(rooms: ModelRooms, ref: str, folder: str) -> dict[str, Any]:
    exported = rooms.models.export(ref, Path(folder))
    files = {path.name: path.stat().st_size for path in sorted(exported.folder.iterdir())}
    return {
        "model": f"{exported.pinned.asset}@{exported.pinned.number}",
        "digest": exported.pinned.digest,
        "folder": str(exported.folder),
        "files": files,
    }


_VERBS: Mapping[str, Callable[..., dict[str, Any]]] = {"pull": _pull, "export": _export}


def _say(value: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(value, default=str) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
