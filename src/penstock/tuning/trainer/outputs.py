"""The finished run's folder `out`: the best checkpoint as a model (or adapter) that other tools read, moved there whole."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from .checkpoints import flush, write_text
from .faults import tell_disk_fault
from .networks import ADAPTER_CONFIG, ADAPTER_WEIGHTS, WEIGHTS, Network, copy_other_files, write_config
from .run_spec import RunSpec

ORIGIN = "origin.json"


def write_output(run: RunSpec, network: Network, best: Path, *, detail: dict[str, Any]) -> Path:
    """Write `out` from a checkpoint and return it. Raises `TrainingFault` for a full disk.

    A model: weights, config, and what lies beside the base's weights. An adapter: its weights and its config, which
    names its base by digest. `origin.json` says which checkpoint it is, and the digest of every other file.
    """
    out, partial = run.folder / "out", run.folder / "out.partial"
    for folder in (out, partial):
        if folder.exists():
            shutil.rmtree(folder)
    try:
        partial.mkdir()
        if network.is_adapter:
            for name in (ADAPTER_WEIGHTS, ADAPTER_CONFIG):
                shutil.copyfile(best / name, partial / name)
        else:
            base = run.locate(run.model or "base")
            shutil.copyfile(best / WEIGHTS, partial / WEIGHTS)
            if base.is_dir():
                copy_other_files(base, partial)
            write_config(network, base, partial)
        files = {path.name: _digest(path) for path in sorted(partial.iterdir()) if path.is_file()}
        origin = {"run": run.id, "digest": run.digest, "files": files, **detail}
        write_text(partial / ORIGIN, json.dumps(origin, indent=1))
        for path in partial.iterdir():
            flush(path)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise tell_disk_fault(error) or error from error
    partial.rename(out)
    flush(run.folder)
    return out


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def read_origin(run: RunSpec) -> dict[str, Any] | None:
    """Return what `out` says of itself if this very run has finished before, else None."""
    path = run.folder / "out" / ORIGIN
    if not path.is_file():
        return None
    origin: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return origin if origin.get("digest") == run.digest else None
