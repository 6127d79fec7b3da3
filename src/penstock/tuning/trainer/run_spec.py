"""The frozen run as the trainer reads it from `run.json`: the fields it needs, with the defaults of `spec/tuning.py`.

`run.json` leaves out what has its default, so the defaults stand here a second time; `tests/tuning/trainer` holds the
two to each other. Fields that the trainer does not need (name, output, note …) are not read.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from .faults import TrainingFault

T = TypeVar("T")
FORMAT = "penstock-run-1"
ADAPTER_METHODS = frozenset({"lora", "qlora", "dora"})
PREFERENCE_METHODS = frozenset({"dpo", "kto"})
METHODS = frozenset({"scratch", "full", "distill"}) | ADAPTER_METHODS | PREFERENCE_METHODS
DPO_LOSSES = ("sigmoid", "hinge", "ipo", "sigmoid_norm", "apo_zero", "apo_down")
KTO_LOSSES = ("kto", "apo_zero_unpaired")
GENERATED_METRICS = ("exact_match", "token_f1")
ALL_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
DEFAULT_LR = {
    "scratch": 1e-3,
    "full": 2e-5,
    "lora": 2e-4,
    "qlora": 2e-4,
    "dora": 2e-4,
    "dpo": 5e-6,
    "kto": 5e-6,
}
"""Used where the frozen recipe left `lr` open."""


@dataclass(frozen=True, kw_only=True)
class AdapterPart:
    r: int = 16
    alpha: int = 32
    dropout: float = 0.0
    targets: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TrainPart:
    lr: float | None = None
    schedule: str = "linear"
    warmup_steps: int = 10
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    epochs: float = 1.0
    max_steps: int | None = None
    batch_size: int = 8
    accumulate: int = 1
    packing: bool = False
    precision: str = "auto"
    checkpoint_every_steps: int = 100
    keep_checkpoints: int = 2
    threads: int | None = None
    gradient_checkpointing: bool | None = None


@dataclass(frozen=True, kw_only=True)
class PreferencePart:
    beta: float = 0.1
    loss: str = "sigmoid"
    sft_weight: float = 0.0
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class HeldOutPart:
    every_steps: int = 50
    metric: str = "loss"
    max_rows: int = 200
    n_samples: int = 4
    max_new_tokens: int = 64
    patience: int | None = None


@dataclass(frozen=True, kw_only=True)
class BudgetPart:
    max_minutes: float | None = None
    max_memory_gb: float | None = None
    max_disk_gb: float | None = None


@dataclass(frozen=True, kw_only=True)
class ScratchPart:
    program: str | None = None
    architecture: str = "llama"
    vocab_size: int = 4096
    hidden_size: int = 256
    n_layers: int = 4
    n_heads: int = 4
    n_kv_heads: int | None = None
    ffn_size: int = 512
    context_length: int = 1024
    rope_theta: float = 10000.0
    tie_embeddings: bool = True


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """One run. `folder` holds `run.json`; all other paths are relative to it."""

    folder: Path
    id: str
    method: str
    """The recipe's, with `distill` resolved to how its student is trained."""
    seed: int
    digest: str
    base: dict[str, Any] | None = None
    model: str | None = "base"
    train_rows: str = "data/train"
    heldout_rows: str | None = "data/heldout"
    samples: str | None = "data/samples.json"
    stop_ids: tuple[int, ...] = ()
    pad_id: int = 0
    n_steps: int = 0
    max_length: int | None = None
    adapter: AdapterPart | None = None
    train: TrainPart = field(default_factory=TrainPart)
    preference: PreferencePart = field(default_factory=PreferencePart)
    evaluation: HeldOutPart = field(default_factory=HeldOutPart)
    budget: BudgetPart = field(default_factory=BudgetPart)
    scratch: ScratchPart | None = None

    @property
    def lr(self) -> float:
        return self.train.lr if self.train.lr is not None else DEFAULT_LR[self.method]

    @property
    def is_adapter(self) -> bool:
        """Whether only an adapter is trained."""
        return self.adapter is not None

    def locate(self, path: str) -> Path:
        """Return a path of the specification as one that can be opened."""
        return self.folder / path


def read_run(path: Path) -> RunSpec:
    """Read and check `run.json`. Raises `TrainingFault` for what the trainer cannot do."""
    frozen = json.loads(path.read_text(encoding="utf-8"))
    if (form := frozen.get("format", FORMAT)) != FORMAT:
        raise TrainingFault("trainer", f"The run is written as {form!r}; this trainer reads {FORMAT!r}.")
    recipe = frozen["recipe"]
    method = recipe["method"]
    if method == "distill":
        method = (recipe.get("distill") or {}).get("student", "full")
    adapter = _build(AdapterPart, recipe.get("adapter"))
    if method in ADAPTER_METHODS and adapter is None:
        adapter = AdapterPart()
    given = {key: frozen[key] for key in ("base", "model", "samples", "pad_id", "n_steps") if key in frozen}
    for ours, theirs in (("train_rows", "train"), ("heldout_rows", "heldout")):
        if theirs in frozen:
            given[ours] = frozen[theirs]
    run = RunSpec(
        folder=path.resolve().parent,
        id=frozen["id"],
        method=method,
        seed=recipe.get("seed", 20),
        digest=frozen.get("digest", ""),
        stop_ids=tuple(frozen.get("stop_ids", ())),
        max_length=(recipe.get("data") or {}).get("max_length"),
        adapter=adapter if method in ADAPTER_METHODS | PREFERENCE_METHODS else None,
        train=_build(TrainPart, recipe.get("train")) or TrainPart(),
        preference=_build(PreferencePart, recipe.get("preference")) or PreferencePart(),
        evaluation=_build(HeldOutPart, recipe.get("evaluation")) or HeldOutPart(),
        budget=_build(BudgetPart, recipe.get("budget")) or BudgetPart(),
        scratch=_build(ScratchPart, recipe.get("scratch")),
        **given,
    )
    check_run(run)
    return run


def check_run(run: RunSpec) -> None:
    """Raise `TrainingFault` where the parts do not go together."""
    losses = {"dpo": DPO_LOSSES, "kto": KTO_LOSSES}.get(run.method)
    metric = run.evaluation.metric
    if run.method not in METHODS:
        raise TrainingFault("trainer", f"This trainer knows no method {run.method!r}.", known=sorted(METHODS))
    if losses is not None and preference_loss(run) not in losses:
        known = ", ".join(losses)
        raise TrainingFault("trainer", f"{run.method} has no loss {run.preference.loss!r}; known: {known}.")
    if metric == "reward_accuracy" and losses is None:
        raise TrainingFault(
            "trainer", f"The metric reward_accuracy needs preferences; {run.method} has none."
        )
    if metric == "token_accuracy" and losses is not None:
        raise TrainingFault("trainer", f"The metric token_accuracy is not measured for {run.method}.")
    if run.method == "scratch" and run.scratch is None:
        raise TrainingFault("trainer", "The method scratch needs the part [scratch].")
    if losses is not None and run.train.packing:
        raise TrainingFault("trainer", f"Rows are not packed for {run.method}; leave train.packing out.")


def preference_loss(run: RunSpec) -> str:
    """Return the name of the preference loss; kto's own is meant where the recipe left dpo's default."""
    is_default = run.method == "kto" and run.preference.loss == "sigmoid"
    return "kto" if is_default else run.preference.loss


def _build(part: type[T], given: dict[str, Any] | None) -> T | None:
    if given is None:
        return None
    names = {each.name for each in dataclasses.fields(part)}  # type: ignore[arg-type]
    return part(
        **{
            name: tuple(value) if isinstance(value, list) else value
            for name, value in given.items()
            if name in names
        }
    )
