"""`python -m penstock.main.compress_process HOME PARENT`: quantises, shrinks, measures or verifies models; the request comes as JSON on standard input.

A process of its own, because native code runs in here: it costs whoever asks neither memory nor, should it crash, life. Progress,
result and errors go out as JSON lines.
"""

import json
import os
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from penstock.base.errors import PenstockError
from penstock.main.embedded import ModelRooms
from penstock.spec.assets import AssetRef
from penstock.spec.home import Home
from penstock.tuning.compress.children import ChildService, child_fields
from penstock.tuning.compress.measuring import measure
from penstock.tuning.compress.shrink import Shrinking
from penstock.tuning.compress.types import MeasureWork, VersionFacts
from penstock.tuning.served import load_served_renderer

WATCH_S = 0.5


def main() -> int:
    """Do what is asked, print it, and return the exit code."""
    threading.Thread(target=_watch, args=(int(sys.argv[2]),), daemon=True).start()
    rooms = ModelRooms(Home(root=Path(sys.argv[1])))
    asked = json.loads(sys.stdin.read())

    def tell(share: float, text: str) -> None:
        _say({"progress": share, "message": text})

    try:
        _say({"result": _VERBS[asked["verb"]](rooms, asked, tell)})
    except PenstockError as error:
        _say({"error": error.as_dict()})
        return error.exit_code
    return 0


def _quantise(rooms: ModelRooms, asked: dict[str, Any], tell: Any) -> Any:
    children = _children(rooms).quantise(
        asked["model"],
        tuple(asked["precisions"]),
        alias=asked.get("alias"),
        note=asked.get("note") or "",
        actor=asked.get("actor") or "owner",
        tell=tell,
    )
    return {"children": [child_fields(child) for child in children]}


def _shrink(rooms: ModelRooms, asked: dict[str, Any], tell: Any) -> Any:
    child = _children(rooms).shrink(
        asked["model"],
        msgspec.convert(asked["how"], Shrinking),
        name=asked["name"],
        precision=asked.get("precision") or "f16",
        alias=asked.get("alias"),
        note=asked.get("note") or "",
        actor=asked.get("actor") or "owner",
        tell=tell,
    )
    return {"children": [child_fields(child)]}


def _measure(rooms: ModelRooms, asked: dict[str, Any], tell: Any) -> Any:
    work = msgspec.convert(asked["work"], MeasureWork)
    models = []
    for digest in work.versions:
        version = rooms.registry.get_by_digest(digest)
        served = rooms.models.serve_version(AssetRef(kind="model", name=version.name, number=version.number))
        models.append((served, load_served_renderer(served), version.content.get("n_parameters")))
    facts: list[VersionFacts] = measure(models, work, tell)
    return {"facts": msgspec.to_builtins(facts)}


def _verify(rooms: ModelRooms, asked: dict[str, Any], tell: Any) -> Any:
    version = rooms.models.resolve(asked["model"])
    checks = rooms.models.verify(asked["model"], with_parity=bool(asked.get("parity")), tell=tell)
    return {
        "model": f"model:{version.name}@{version.number}",
        "digest": version.digest,
        "passed": all(check.passed is not False for check in checks),
        "checks": [asdict(check) for check in checks],
    }


def _children(rooms: ModelRooms) -> ChildService:
    return ChildService(rooms.models, rooms.registry, rooms.blobs, work=rooms.home.root / "work")


_VERBS = {"quantise": _quantise, "shrink": _shrink, "measure": _measure, "verify": _verify}


def _watch(parent: int) -> None:
    """End when the process that asked is gone. Looked at again and again: the kernel's own tie is to a thread, not to a process."""
    while os.getppid() == parent:
        time.sleep(WATCH_S)
    os._exit(1)


def _say(value: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(value, default=str) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    code = main()
    os._exit(code)  # taking engines down can wait for ever in native code, and everything is said
