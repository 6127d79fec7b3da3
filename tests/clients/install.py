"""Installs the clients that cannot share the environment of development, once, below its prefix.

`make install` runs this; so does the first test that needs it. Prints what could not be had and goes on.
"""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def _place(name: str, wanted: Path) -> Path:
    """Return the folder of a client: another one as soon as something else is wanted."""
    return Path(sys.prefix) / "clients" / f"{name}-{hashlib.sha256(wanted.read_bytes()).hexdigest()[:8]}"


LLAMA_INDEX = _place("llama-index", HERE / "llama-index.txt")
NODE = _place("node", HERE / "node" / "package.json")


def install_llama_index() -> str | None:
    """Install; return why it could not be done."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    return _install(LLAMA_INDEX, [*pip, "-r", str(HERE / "llama-index.txt"), "--target"])


def install_node() -> str | None:
    """Install the npm package; return why it could not be done."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        return "node and npm are not on this machine"
    options = ["--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock"]
    return _install(NODE, [npm, "install", *options, "--prefix"], HERE / "node" / "package.json")


def _install(place: Path, command: list[str], *files: Path) -> str | None:
    """Run `command` with a fresh folder as its last argument; the folder gets its name once all went well."""
    if place.exists():
        return None
    part = place.with_name(f"{place.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for file in files:
        shutil.copy(file, part)
    done = subprocess.run([*command, str(part)], capture_output=True, text=True, check=False)
    if done.returncode:
        return f"{place.name} could not be installed: {done.stderr.strip()[-300:]}"
    part.replace(place)
    return None


if __name__ == "__main__":
    for problem in (install_llama_index(), install_node()):
        if problem is not None:
            print(problem, file=sys.stderr)  # noqa: T201  # this is a script
