"""Runs of tuning for the command line: as jobs of the instance that runs on the home, else right here.

Looking needs neither: records are in the control tables and events in the home's files.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import msgspec

from penstock.base.digest import digest_json
from penstock.base.errors import InvalidInput
from penstock.base.files import write_atomic
from penstock.base.late import late_imports
from penstock.main.instance import running_instance
from penstock.main.last_snapshot import LastSnapshot
from penstock.spec.home import Home
from penstock.spec.tuning import BudgetPart, Recipe, RunRecord
from penstock.tuning.recipes.reading import read_recipe_text

with late_imports():
    from penstock.main import compress_rooms, dataset_rooms, embedded, eval_ports, job_wait, tune_rooms
    from penstock.tuning.runs import service as run_service


class TuneAccess:
    """What commands ask about runs of one home; leaving it as a context lets go of the database."""

    def __init__(self, home: Home, *, environ: Mapping[str, str] = os.environ) -> None:
        self.home = home
        self._environ = environ
        self._rooms = embedded.ModelRooms(home, environ=environ)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @property
    def runs(self) -> run_service.RunService:
        """Runs as records and files."""
        return self._tuning.runs

    @cached_property
    def settings(self) -> tune_rooms.TuneSettings:
        """What the settings say about training."""
        return tune_rooms.read_tune_settings(self._rooms.storage_file.settings)

    @property
    def is_running(self) -> bool:
        """Whether an instance runs on this home, which then drives runs."""
        return running_instance(self.home) is not None

    def start(self, recipe: Recipe, *, actor: str, tell: job_wait.Tell, wait: bool = True) -> RunRecord:
        """Run a recipe and return its record; raises what made it fail.

        Without a running instance it is trained in this process's care: ending the command stops the run, with a
        checkpoint.
        """
        if self.is_running:
            return self._follow(self.runs.start(recipe, actor=actor), tell, wait=wait)
        if not wait:
            raise InvalidInput(
                "Nothing runs on this home that could go on without this command.",
                hint="Start it with `penstock up`, or leave out --no-wait.",
            )
        return self._drive(self.runs.create(recipe, actor=actor), tell)

    def resume(
        self, wanted: str, *, tell: job_wait.Tell, budget: BudgetPart | None = None, wait: bool = True
    ) -> RunRecord:
        """Go on with a run that was stopped or has failed, from its last checkpoint; `budget` raises its bounds."""
        if self.is_running:
            return self._follow(self.runs.resume(wanted, budget=budget), tell, wait=wait)
        return self._drive(self.runs.reopen(wanted, budget=budget), tell)

    def follow(self, wanted: str, tell: job_wait.Tell) -> RunRecord:
        """Wait for the end of a run that a job drives."""
        record = self.runs.get(wanted)
        return record if record.job is None else self._follow(record, tell, wait=True)

    def close(self) -> None:
        """Let go of the database."""
        self._rooms.close()

    @cached_property
    def _tuning(self) -> tune_rooms.Tuning:
        rooms = self._rooms
        snapshot = LastSnapshot(self.home.snapshot)
        datasets = dataset_rooms.create_datasets(self.home, rooms.registry, rooms.blobs)
        return tune_rooms.create_tuning(
            tune_rooms.TuningParts(
                home=self.home,
                engine=rooms.engine,
                registry=rooms.registry,
                datasets=datasets,
                models=rooms.models,
                jobs=rooms.jobs,
                settings=self.settings,
                prices=eval_ports.RoutePrices(snapshot.read, rooms.registry),
                distil=compress_rooms.create_distiller(self.home, rooms.registry, datasets),
                environ=self._environ,
            )
        )

    def _follow(self, record: RunRecord, tell: job_wait.Tell, *, wait: bool) -> RunRecord:
        if wait and record.job is not None:
            job_wait.wait_for_job(self._rooms.jobs, record.job, tell)
        return self.runs.get(record.id)

    def _drive(self, record: RunRecord, tell: job_wait.Tell) -> RunRecord:
        context = HereContext(self.home.tuning / record.id / "steps", tell)
        with _term_as_interrupt():
            ended = self._tuning.execution.execute(record.id, context)
        if self.home.snapshot.exists():
            self._rooms.publish_snapshot()
        return ended


class HereContext:
    """`tuning.runs.ports.RunContext` of a command: tells a person, keeps finished steps as files."""

    def __init__(self, folder: Path, tell: job_wait.Tell) -> None:
        self._folder = folder
        self._tell = tell
        self._last: float | None = None

    def progress(self, fraction: float | None, message: str | None = None) -> None:
        """Tell how far it is."""
        self._last = fraction if fraction is not None else self._last
        self._tell(self._last, message or "")

    def log(self, text: str) -> None:
        """Tell a line."""
        self._tell(self._last, text)

    def check_cancelled(self) -> None:
        """Nothing: an interrupt of the command is raised wherever it is."""

    def step(self, name: str, inputs: dict[str, Any], fn: Callable[[], Any]) -> Any:
        """Return what `fn()` returned for these inputs, running it once."""
        path = self._folder / f"{digest_json([name, inputs])[7:39]}.json"
        if not path.is_file():
            value = fn()
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomic(path, msgspec.json.encode(value))
        return json.loads(path.read_text(encoding="utf-8"))


def read_recipe_file(path: Path) -> Recipe:
    """Return the recipe in a TOML file; a training program is found from the file's folder."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise InvalidInput(
            f"There is no file {path}.", hint="`penstock tune init` writes a recipe."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}.") from error
    recipe = read_recipe_text(text, name=str(path))
    part = recipe.scratch
    if part is None or part.program is None:
        return recipe
    program = (path.absolute().parent / Path(part.program).expanduser()).resolve()
    if not (program / "__main__.py").is_file():
        raise InvalidInput(
            f"{program} is no training program: it has no __main__.py.",
            hint="scratch.program is a folder, seen from the recipe's file.",
        )
    return msgspec.structs.replace(recipe, scratch=msgspec.structs.replace(part, program=str(program)))


@contextmanager
def _term_as_interrupt() -> Iterator[None]:
    """Let SIGTERM end a run as Ctrl-C does: with a checkpoint."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
