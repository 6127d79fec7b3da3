"""Runs of tuning in words: what a run is, how far it is, how it came out. Records in, sentences out."""

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.console.formats import format_ms
from penstock.console.step_plots import format_figure
from penstock.spec.tuning import FINAL_RUN_STATES, RunRecord
from penstock.tuning.runs.comparing import LOWER_IS_BETTER
from penstock.tuning.runs.types import Curve

METHODS = {
    "scratch": "A model from nothing",
    "full": "Full fine-tuning",
    "lora": "LoRA",
    "qlora": "QLoRA",
    "dora": "DoRA",
    "dpo": "DPO",
    "kto": "KTO",
    "distill": "Distillation",
}
FIGURES = {
    "loss": "loss",
    "token_accuracy": "token accuracy",
    "exact_match": "exact match",
    "token_f1": "token F1",
    "reward_accuracy": "reward accuracy",
    "lr": "learning rate",
    "tokens_per_s": "tokens a second",
    "grad_norm": "gradient norm",
    "memory_mb": "memory",
}
FAULTS = {
    "nan_loss": "The loss was no number any more.",
    "out_of_memory": "The machine had no memory left for it.",
    "disk_full": "The disk was full.",
    "budget": "Its budget was used up.",
    "killed": "Its trainer was ended from outside.",
    "preflight": "The preflight refused it.",
    "parity": "What was trained and what would be served differ.",
    "data_changed": "Its data is not what it was frozen to.",
    "trainer": "Its trainer failed.",
    "bug": "Penstock failed.",
}


def name_figure(name: str) -> str:
    """Return a figure's name as people read it."""
    return FIGURES.get(name, name.replace("_", " "))


def tell_best(record: RunRecord) -> str:
    """Return the best held-out figure with its name; empty before there is one."""
    best = record.best or {}
    metric, value = str(best.get("metric", "")), best.get("value")
    if not metric or value is None:
        return ""
    return f"{name_figure(metric)} {format_figure(metric, float(value))}"


def done_share(record: RunRecord) -> float | None:
    """Return how much of the training is done, in percent; None before its length is known."""
    if not record.n_steps:
        return None
    return round(min(100.0, 100 * record.step / record.n_steps), 1)


def took_ms(record: RunRecord, now_ns: int) -> float | None:
    """Return how long the run has taken, in milliseconds."""
    if record.started_ns is None:
        return None
    return max(0.0, ((record.finished_ns or now_ns) - record.started_ns) / 1e6)


def rest_ms(record: RunRecord, rate: float | None) -> float | None:
    """Return about how long training still takes at `rate` steps a second."""
    if record.state != "running" or not rate or not record.n_steps:
        return None
    return 1000 * max(0, record.n_steps - record.step) / rate


def say_run(record: RunRecord, curves: Sequence[Curve], now_ns: int) -> str:
    """Return what a run is and how it stands, in one or two sentences."""
    data = record.recipe.get("data") or {}
    what = METHODS.get(record.method, record.method)
    base = record.base or (record.recipe.get("base") or {}).get("model")
    begun = what if record.method == "scratch" or not base else f"{what} of {base}"
    parts = [f"{begun} on {data.get('train', 'its data')}"]
    steps = f"{record.step:,} of {record.n_steps:,} steps" if record.n_steps else ""
    taken = took_ms(record, now_ns)
    if steps:
        parts.append(f"{steps}{f' in {format_ms(taken)}' if taken else ''}")
    gain = say_gain(record, curves)
    if gain:
        parts.append(gain)
    result = (record.result or {}).get("model")
    if result:
        parts.append(f"registered as {result}")
    elif record.state not in FINAL_RUN_STATES:
        parts.append(record.state)
    return f"{'; '.join(parts)}."


def say_gain(record: RunRecord, curves: Sequence[Curve]) -> str:
    """Return the best held-out figure beside what it was before training; empty before there is one."""
    best = tell_best(record)
    if not best or record.best is None:
        return ""
    metric = str(record.best["metric"])
    first = next((each.points[0] for each in curves if each.name == f"eval.{metric}" and each.points), None)
    told = f"best held-out {best} at step {int(record.best.get('step') or 0):,}"
    if first is not None and first.step == 0 and record.best.get("step"):
        told += f", {format_figure(metric, first.value)} before training"
    return told


def is_lower_better(metric: str) -> bool:
    """Whether a smaller value of a figure is the better one."""
    return metric in LOWER_IS_BETTER


def flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return nested settings as (key, text) pairs in order: `train.lr`, `0.002`."""
    found: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            found += flatten(value, f"{prefix}{key}.") if value else [(f"{prefix}{key}", "defaults")]
        else:
            found.append((f"{prefix}{key}", say_setting(value)))
    return found


def say_setting(value: Any) -> str:
    """Return the value of a setting as people write it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
