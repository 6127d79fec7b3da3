"""The training runtime as tests use it: trains run folders, breaks on demand, calls functions of `inside`."""

import itertools
import json
import subprocess
from pathlib import Path
from typing import Any

from tests.tuning.trainer.run_folders import ENTRY, read_events

HERE = Path(__file__).parent


class Runtime:
    """A child process of the runtime's own python. One request at a time."""

    def __init__(self, python: Path, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()
        self._process = subprocess.Popen(
            [python, "-I", HERE / "serve_runtime.py", ENTRY, HERE / "inside.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def train(self, folder: Path, *, expect: int = 0, fault: str | None = None, **options: Any) -> list[Any]:
        """Train a run to its end and return its events. `fault` breaks it; see `serve_runtime.BREAKS`."""
        self.begin(folder, fault=fault, **options)
        code = self.wait()
        events = read_events(folder)
        assert code == expect, ((folder / "log").read_text()[-3000:], events[-1:])
        return events

    def begin(
        self, folder: Path, *, fault: str | None = None, arguments: tuple[str, ...] = (), **options: Any
    ) -> int:
        """Start a training and return its process id."""
        return self._ask(
            {
                "do": "train",
                "run": str(folder / "run.json"),
                "break": fault,
                "with": options,
                "log": str(folder / "log"),
                "arguments": arguments,
            }
        )

    def wait(self) -> int:
        """Wait for what was begun; return its exit code, −N when signal N ended it."""
        return int(self._read()["code"])

    def call(self, name: str, **arguments: Any) -> Any:
        """Call a function of `inside` in the runtime and return what it returns."""
        number = next(self._numbers)
        answer, log = self._folder / f"answer-{number}.json", self._folder / f"log-{number}"
        self._ask(
            {"do": "call", "name": name, "arguments": arguments, "answer": str(answer), "log": str(log)}
        )
        code = self.wait()
        assert code == 0, log.read_text()[-3000:]
        return json.loads(answer.read_text())

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(240)
        self._process.stdout.close()

    def _ask(self, asked: dict[str, Any]) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return int(self._read()["pid"])

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the runtime ended"
        return json.loads(line)
