"""The command line of vLLM for one process of a deployment: everything said, nothing left to its defaults."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from penstock.base.digest import short_digest
from penstock.base.files import write_atomic
from penstock.deploy.deployments.errors import EngineNotInstalled
from penstock.deploy.deployments.types import SeatSpec
from penstock.main.embedded import ModelRooms
from penstock.providers.engines.types import SamplingPolicy

PROGRAM = "vllm"
SEED = 0
FOLDERS = "served"
"""In a home: models in Hugging Face layout, by digest, as vLLM reads them."""


def vllm_command(
    installation: ModelRooms, seat: SeatSpec, port: int
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return command and environment; writes the model's folder when it is not there yet.

    Raises `EngineNotInstalled`, and what checking the model out raises.
    """
    program = find_program(installation.environ)
    folder = _check_out(installation, seat.model.label, seat.model.digest)
    adapters = [
        (f"{seat.served_name}:{each.name}@{each.short}", _adapter(installation, each.label, each.digest))
        for each in seat.adapters
    ]
    sampling = installation.registry.resolve(seat.model.label).content.get("sampling") or {}
    command = write_command(program, folder, seat, port, adapters=adapters, sampling=sampling)
    return command, write_environ(installation.internal_key)


def find_program(environ: Mapping[str, str]) -> str:
    """Return the path of vLLM's program: `PENSTOCK_VLLM`, else what the search path finds."""
    found = environ.get("PENSTOCK_VLLM") or shutil.which(PROGRAM, path=environ.get("PATH"))
    if not found or not Path(found).exists():
        raise EngineNotInstalled(
            "There is no program `vllm` on this machine.",
            hint="Install it into an environment of its own and name its program in PENSTOCK_VLLM, or give the address "
            "of one that runs with --engine server --url http://HOST:PORT/v1.",
        )
    return found


def write_command(
    program: str,
    folder: Path,
    seat: SeatSpec,
    port: int,
    *,
    adapters: Sequence[tuple[str, Path]] = (),
    sampling: Mapping[str, Any] | None = None,
) -> tuple[str, ...]:
    """Return the command line.

    `--generation-config vllm` keeps values in the model's folder from becoming defaults (vLLM issue 15281); what a
    call leaves open is decided by the version's own sampling policy instead.
    """
    command = [
        *(program, "serve", str(folder)),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--served-model-name", seat.served_name),
        *("--max-model-len", str(seat.context_length or seat.model.context_length)),
        *("--generation-config", "vllm"),
        *("--override-generation-config", json.dumps(_defaults(sampling or {}), sort_keys=True)),
        *("--seed", str(SEED)),
    ]
    if seat.slots:
        command += ["--max-num-seqs", str(seat.slots)]
    if adapters:
        # by digest: a name is never used for another adapter (vLLM issue 42125)
        modules = [f"{name}={path}" for name, path in adapters]
        command += ["--enable-lora", "--max-loras", str(len(adapters)), "--lora-modules", *modules]
    return tuple(command)


def _defaults(sampling: Mapping[str, Any]) -> dict[str, Any]:
    """Return the policy of a version in vLLM's words."""
    policy = msgspec.convert(dict(sampling), SamplingPolicy)
    return {
        "temperature": policy.temperature,
        "top_p": policy.top_p,
        "top_k": policy.top_k or -1,
        "min_p": policy.min_p,
        "repetition_penalty": policy.repeat_penalty,
    }


def write_environ(internal_key: str) -> dict[str, str]:
    """Return what is set for it: the key it asks for, nothing sent home, no hub."""
    return {
        "VLLM_API_KEY": internal_key,
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TRANSFORMERS_OFFLINE": "1",
    }


def _check_out(installation: ModelRooms, label: str, digest: str) -> Path:
    folder = installation.home.root / FOLDERS / short_digest(digest)
    done = folder.with_suffix(".done")
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        installation.models.checkout(label, folder, merge_adapters=False)
        write_atomic(done, label.encode())
    return folder


def _adapter(installation: ModelRooms, label: str, digest: str) -> Path:
    """Write an adapter version's files as PEFT has them."""
    folder = installation.home.root / FOLDERS / short_digest(digest)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    version = installation.registry.resolve(label)
    for name, blob in version.artefacts.items():
        kind, _, file = name.partition("/")
        if kind == "adapter" and not (folder / file).exists():
            write_atomic(folder / file, installation.blobs.local_path(blob).read_bytes())
    return folder
