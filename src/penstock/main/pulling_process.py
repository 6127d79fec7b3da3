"""`python -m penstock.main.pulling_process HOME NAME SOURCE`: pulls one model, telling progress as JSON lines."""

import json
import sys
from pathlib import Path

from penstock.base.errors import PenstockError
from penstock.main.embedded import ModelRooms
from penstock.spec.home import Home


def main() -> int:
    """Pull, print, and return the exit code."""
    root, name, source = sys.argv[1:]
    rooms = ModelRooms(Home(root=Path(root)))

    def tell(share: float, text: str) -> None:
        _say({"progress": share, "message": text})

    try:
        pulled = rooms.models.pull(name, source, progress=tell)
        rooms.publish_snapshot()
    except PenstockError as error:
        _say({"error": error.as_dict()})
        return error.exit_code
    label = f"model:{name}@{pulled.number}"
    _say(
        {
            "result": {
                "model": label,
                "digest": pulled.digest,
                "is_new": pulled.is_new,
                "parity": dict(pulled.parity),
            }
        }
    )
    return 0


def _say(value: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(value, default=str) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
