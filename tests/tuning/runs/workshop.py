"""Runs over a real table and real folders, with datasets in memory, a tiny base, and the fake trainer."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Engine

from penstock.base.digest import digest_json
from penstock.base.errors import NotFound
from penstock.datasets.cases import row_to_case
from penstock.spec.datasets import DatasetFacts, DatasetRow
from penstock.spec.tuning import FrozenRun, PinnedAsset, Recipe, RunRecord, Runtime
from penstock.tuning.errors import ParityFailed
from penstock.tuning.model_types import BaseFolder, RegisteredModel
from penstock.tuning.planning import Planner, PlanningParts
from penstock.tuning.preflight.types import BaseFacts
from penstock.tuning.recipes.reading import read_recipe
from penstock.tuning.renderer import build_renderer, read_renderer_spec
from penstock.tuning.rows.types import RowSource
from penstock.tuning.runs.executing import ExecutionParts, RunExecution
from penstock.tuning.runs.folder import RunFolder
from penstock.tuning.runs.preparing import Preparation, PreparingParts
from penstock.tuning.runs.queries import RunStore
from penstock.tuning.runs.service import RunService
from penstock.tuning.runtimes import TRAINER, trainer_environment
from tests.tuning.tiny_models import make_llama

FAKE = Path(__file__).with_name("fake_trainer.py")
RUNTIME = Runtime(python=sys.executable, digest="sha256:fake", packages={"torch": "0.fake"}, device="cpu")


def make_rows(count: int) -> list[DatasetRow]:
    """Rows of `chat`, each another question."""
    return [
        DatasetRow(
            id=f"r{number}",
            fields={
                "messages": [
                    {"role": "user", "content": f"Question {number}: how long should I walk?"},
                    {"role": "assistant", "content": f"About {number} minutes a day."},
                ]
            },
        )
        for number in range(count)
    ]


class Assets:
    """`TrainingAssets` in memory; `versions` may be changed while a run is under way."""

    def __init__(self) -> None:
        self.rows = {"dataset:walks": [make_rows(20)]}

    def dataset(self, ref: str) -> tuple[PinnedAsset, RowSource]:
        name, _, number = ref.partition("@")
        if name not in self.rows:
            raise NotFound(f"There is no {name}.")
        version = int(number) if number.isdigit() else len(self.rows[name])
        rows = self.rows[name][version - 1]
        digest = digest_json(msgspec.to_builtins(rows))
        facts = DatasetFacts(format="chat", n_rows=len(rows), rows_digest=digest, license="MIT")
        source = RowSource(ref=f"{name}@{version}", facts=facts, read=lambda: iter(rows))
        return PinnedAsset(asset=name, number=version, digest=digest), source

    def prompt(self, ref: str) -> Any:
        raise NotFound(f"There is no {ref}.")

    def base(self, ref: str) -> tuple[PinnedAsset, BaseFacts]:
        if ref.partition("@")[0] != "model:tiny":
            raise NotFound(f"There is no {ref}.")
        pinned = PinnedAsset(asset="model:tiny", number=1, digest="sha256:" + "1" * 64)
        facts = BaseFacts(
            ref="model:tiny@1",
            digest=pinned.digest,
            revision="shipped",
            license="Apache-2.0",
            context_length=128,
        )
        return pinned, facts


class Models:
    """Gives out one tiny base and notes what is registered."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self.registered: list[dict[str, Any]] = []
        self.n_checkouts = 0
        self.raises: list[BaseException] = []

    def checkout(self, ref: Any, folder: Path, *, merge_adapters: bool = True) -> BaseFolder:
        self.n_checkouts += 1
        folder.mkdir(parents=True, exist_ok=True)
        for path in self._base.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        renderer = build_renderer(read_renderer_spec(folder), (folder / "tokenizer.json").read_bytes())
        return BaseFolder(
            folder=folder,
            pinned=PinnedAsset(asset="model:tiny", number=1, digest="sha256:" + "1" * 64),
            renderer=renderer,
            stop_ids=(2,),
            pad_id=0,
            context_length=128,
        )

    def register_trained(self, name: str, folder_hf: Path | None, **options: Any) -> RegisteredModel:
        assert folder_hf is not None
        if self.raises:
            raise self.raises.pop()
        weights = options["adapter_folder"] or folder_hf
        data = (weights / "model.safetensors").read_bytes()
        files = sorted(path.name for path in folder_hf.iterdir())
        self.registered.append({"name": name, "weights": data, "files": files, **options})
        return RegisteredModel(label=f"model:{name}@{len(self.registered)}", digest="sha256:" + "9" * 64)


class Context:
    """A job's context; `stop_at` raises once the run's events have told that step."""

    def __init__(self) -> None:
        self.logs: list[str] = []
        self.told: list[tuple[float | None, str | None]] = []
        self.on_check: Callable[[], None] = lambda: None

    def progress(self, fraction: float | None, message: str | None = None) -> None:
        self.told.append((fraction, message))

    def log(self, text: str) -> None:
        self.logs.append(text)

    def check_cancelled(self) -> None:
        self.on_check()

    def step(self, name: str, inputs: dict[str, Any], fn: Callable[[], Any]) -> Any:
        return fn()


@dataclass
class Workshop:
    """Everything that a run needs."""

    root: Path
    store: RunStore
    assets: Assets
    models: Models
    service: RunService
    execution: RunExecution
    slept: list[float] = field(default_factory=list)

    def recipe(self, **parts: Any) -> Recipe:
        """A run of 12 steps with a checkpoint every 3."""
        values: dict[str, Any] = {
            "name": "walks",
            "method": "full",
            "base": {"model": "model:tiny"},
            "data": {"train": "dataset:walks", "eval_share": 0.2},
            "train": {"max_steps": 12, "checkpoint_every_steps": 3, "batch_size": 2},
            "output": {"name": "walks"},
        }
        for name, value in parts.items():
            values[name] = {**values.get(name, {}), **value} if isinstance(value, dict) else value
        return read_recipe(values)

    def wish(self, **wish: Any) -> None:
        """Say what the trainer does beyond training."""
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / "fake.json").write_text(json.dumps(wish))

    def begin(self, **parts: Any) -> RunRecord:
        return self.service.create(self.recipe(**parts), actor="ann")

    def finish(self, record: RunRecord, context: Context | None = None) -> RunRecord:
        return self.execution.execute(record.id, context or Context())

    def folder(self, record: RunRecord) -> RunFolder:
        return RunFolder(self.root, record.id)

    def weights(self, **parts: Any) -> bytes:
        """What an undisturbed run makes."""
        self.wish()
        before = len(self.models.registered)
        self.finish(self.begin(**parts))
        weights: bytes = self.models.registered.pop(before)["weights"]
        return weights


def open_workshop(root: Path, engine: Engine, base: Path, *, python: Path | None = None) -> Workshop:
    """Return a workshop whose runs lie below `root`; with the training environment's `python` it trains really."""
    if not (base / "config.json").exists():
        make_llama(base)
    assets, models = Assets(), Models(base)
    runtime = RUNTIME if python is None else msgspec.structs.replace(RUNTIME, python=str(python))
    store = RunStore(engine)
    preparation = Preparation(PreparingParts(assets=assets, models=models, as_case=row_to_case))

    def command(runtime: Runtime, frozen: FrozenRun, folder: RunFolder) -> list[str]:
        return [runtime.python, "-I", str(FAKE if python is None else TRAINER), str(folder.spec)]

    planner = Planner(
        PlanningParts(
            root=root,
            preparation=preparation,
            store=store,
            find_runtime=lambda: runtime,
            make_command=command,
            trainer_env=partial(trainer_environment, os.environ),
        )
    )
    execution = RunExecution(
        ExecutionParts(
            store=store,
            root=root,
            preparation=preparation,
            models=models,
            find_runtime=lambda: runtime,
            make_command=command,
            trainer_env=partial(trainer_environment, os.environ),
            judge=planner.judge,
            outline=planner.outline,
            retry_s=(0.0, 0.0),
            poll_s=0.01,
        )
    )
    service = RunService(store, root, preparation=preparation, planner=planner)
    return Workshop(
        root=root, store=store, assets=assets, models=models, service=service, execution=execution
    )


PARITY = ParityFailed("it answers otherwise")
