"""The environment that training runs in: where it is, what it holds, and making it.

It is found in this order: the setting `[tuning] python`, the variable `PENSTOCK_TUNE_PYTHON`, and the one that
`penstock tune install` makes for the pins that this version ships. Nothing of it is imported here: it is asked by
starting its interpreter. Torch is so large and its pins so strict that it never enters Penstock's own environment.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from penstock import data as package_data
from penstock.base.digest import digest_json
from penstock.spec.tuning import Runtime
from penstock.tuning.runs.errors import InstallFailed, NoRuntime, RuntimeBroken

PYTHON_VARIABLE = "PENSTOCK_TUNE_PYTHON"
PINS = Path(package_data.__file__).parent / "tuning" / "requirements.txt"
GPU_PINS = PINS.with_name("requirements-gpu.txt")
TRAINER = Path(__file__).parent / "trainer" / "__main__.py"
"""Started by path with the runtime's interpreter; it imports nothing of Penstock."""
COMPLETE = "complete.json"
"""Written into an environment last: one without it was killed while it was made."""
PROBE_S = 120.0
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "WANDB_MODE": "disabled",
    "WANDB_DISABLED": "true",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONDONTWRITEBYTECODE": "1",
}
"""What the trainer is started with, so that its libraries ask nothing of the network and tell nobody."""
NETWORK_KEYS = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
"""Left out where the setting `[tuning] network` allows it; telemetry stays off."""
_PASSED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_HOME")
Origin = Literal["setting", "environment", "installed"]
Tell = Callable[[float | None, str], None]


@dataclass(frozen=True, kw_only=True)
class RuntimePlace:
    """An interpreter, and who named it."""

    python: Path
    origin: Origin


def find_runtime(setting: str | None = None, environ: Mapping[str, str] = os.environ) -> RuntimePlace:
    """Return where the training environment is; raise `NoRuntime` with the command that makes one."""
    named: tuple[tuple[str | None, Origin], ...] = (
        (setting, "setting"),
        (environ.get(PYTHON_VARIABLE), "environment"),
    )
    for text, origin in named:
        if not text:
            continue
        python = Path(text).expanduser()
        if not os.access(python, os.X_OK) or python.is_dir():
            where = (
                "the setting [tuning] python" if origin == "setting" else f"the variable {PYTHON_VARIABLE}"
            )
            raise NoRuntime(
                f"{python} is no program that can be run; {where} names it.",
                hint="Name the Python of an environment with the training libraries.",
            )
        return RuntimePlace(python=python, origin=origin)
    folder = runtime_folder(environ)
    if not (folder / COMPLETE).is_file():
        raise NoRuntime(
            "Training needs an environment of its own, and there is none yet.",
            hint="Make it with `penstock tune install` (about 1 to 6 GB), or name one in "
            f"{PYTHON_VARIABLE} or in the settings under [tuning] python.",
        )
    return RuntimePlace(python=folder / "bin" / "python", origin="installed")


def runtime_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where the environment for the shipped pins is or will be: another one for other pins."""
    data = environ.get("XDG_DATA_HOME")
    root = Path(data) if data else Path(environ.get("HOME") or "~").expanduser() / ".local" / "share"
    digest = hashlib.sha256(PINS.read_bytes()).hexdigest()[:12]
    return root / "penstock" / "runtimes" / f"tune-{digest}"


def trainer_environment(environ: Mapping[str, str], *, network: bool = False) -> dict[str, str]:
    """Return the variables of a trainer's process: few of ours, no keys among them, and libraries kept quiet."""
    kept = {name: environ[name] for name in _PASSED if name in environ}
    quiet = {name: value for name, value in QUIET.items() if not (network and name in NETWORK_KEYS)}
    return {**kept, **quiet}


def probe_runtime(
    place: RuntimePlace, *, environ: Mapping[str, str] = os.environ, trainer: Path = TRAINER
) -> Runtime:
    """Return what the environment holds and runs on, as the trainer itself sees it; raise `RuntimeBroken`."""
    command = [str(place.python), "-I", str(trainer), "--check"]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=PROBE_S,
            check=False,
            env=trainer_environment(environ),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RuntimeBroken(f"{place.python} could not be asked what it holds: {error}.") from error
    told = _last_json(done.stdout)
    if done.returncode or told is None:
        words = (done.stderr.strip() or done.stdout.strip() or "it said nothing").rpartition("\n")[2]
        raise RuntimeBroken(
            f"The training environment {place.python} does not work: {words[:400]}",
            hint="`penstock tune install --again` makes a fresh one; `penstock tune doctor` looks again.",
        )
    packages = {str(name): str(version) for name, version in sorted(told["packages"].items())}
    return Runtime(
        python=str(place.python),
        digest=digest_json(packages),
        packages=packages,
        device=str(told.get("device") or "cpu"),
        hardware=dict(told.get("hardware") or {}),
    )


def read_pins(*, gpu: bool = False) -> dict[str, str]:
    """Return the exact versions that this version of Penstock trains with."""
    files = (PINS, GPU_PINS) if gpu else (PINS,)
    lines = [line.strip() for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    pairs = [line.partition("==") for line in lines if line and not line.startswith("#")]
    return {name: version for name, _, version in pairs}


def differing_pins(runtime: Runtime) -> dict[str, tuple[str, str | None]]:
    """Return packages whose version is another than the pinned one: name to (pinned, there)."""
    there = {name.lower().replace("_", "-"): version for name, version in runtime.packages.items()}
    return {
        name: (pinned, there.get(name))
        for name, pinned in read_pins().items()
        if (there.get(name) or "").partition("+")[0] != pinned
    }


def install_runtime(
    tell: Tell,
    *,
    environ: Mapping[str, str] = os.environ,
    gpu: bool = False,
    again: bool = False,
    pip_options: Sequence[str] = (),
    base_python: str = sys.executable,
) -> RuntimePlace:
    """Make the environment for the shipped pins and return it; quick when it is there.

    Of several callers one makes it and the others wait. Raises `InstallFailed` with pip's own words.
    """
    folder = runtime_folder(environ)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _held(folder.with_name(f"{folder.name}.lock")):
        wanted = {"gpu": gpu or (not again and _is_gpu(folder))}
        if not again and (folder / COMPLETE).is_file() and _is_gpu(folder) == wanted["gpu"]:
            tell(1.0, f"{folder} is there")
            return RuntimePlace(python=folder / "bin" / "python", origin="installed")
        tell(0.0, f"making {folder}")
        if again:
            shutil.rmtree(folder, ignore_errors=True)
        (folder / COMPLETE).unlink(missing_ok=True)
        _run([base_python, "-m", "venv", str(folder)], "the environment could not be made")
        files = [PINS, GPU_PINS] if wanted["gpu"] else [PINS]
        command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check"]
        command += [*pip_options, *(part for file in files for part in ("-r", str(file)))]
        _run_told(command, tell)
        (folder / COMPLETE).write_text(json.dumps(wanted), encoding="utf-8")
        tell(1.0, f"{folder} is ready")
    return RuntimePlace(python=folder / "bin" / "python", origin="installed")


def _is_gpu(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / COMPLETE).read_text(encoding="utf-8")).get("gpu"))
    except (OSError, ValueError):
        return False


@contextmanager
def _held(path: Path) -> Iterator[None]:
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(command: Sequence[str], what: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InstallFailed(f"{what}: {done.stderr.strip()[-400:]}", hint="Python's venv module is needed.")


def _run_told(command: Sequence[str], tell: Tell) -> None:
    """Run pip and tell what it does as it goes: its downloads take minutes."""
    last: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            text = line.strip()
            last = [*last, text][-8:]
            if text.startswith(("Collecting", "Downloading", "Installing", "Using cached")):
                tell(None, text[:100])
    if process.returncode:
        raise InstallFailed(
            f"pip could not install the training libraries: {' '.join(last)[-600:]}",
            hint="Where pip goes through a mirror, pass --pip '--index-url URL'.",
        )


def _last_json(text: str) -> dict[str, Any] | None:
    for line in reversed(text.strip().splitlines()):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict) and isinstance(value.get("packages"), dict):
            return value
    return None
