"""The trainer's front door: puts its own folder in place as a package, closes the network to libraries, and runs.

Started by path, so that the runtime needs no Penstock; `-I` keeps the user's own packages and variables out. The
package is given a name of its own, and its folder never lies on the path of imports, where its modules could hide others.
"""

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

NAME = "penstock_trainer"
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # without it cuBLAS may add up in another order each time
}


def load_package(folder: Path = Path(__file__).resolve().parent) -> ModuleType:
    """Import the trainer's folder as the package `penstock_trainer`, wherever it lies; the same one each time."""
    if NAME in sys.modules:
        return sys.modules[NAME]
    spec = importlib.util.spec_from_file_location(
        NAME, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = package
    spec.loader.exec_module(package)
    return package


def main(arguments: list[str]) -> int:
    """Run the trainer (or its `--check`) and return the exit code."""
    os.environ.update(ENVIRONMENT)
    load_package()
    entry = importlib.import_module(f"{NAME}.entry")
    return int(entry.main(arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
