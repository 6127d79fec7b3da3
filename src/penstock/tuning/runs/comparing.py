"""Runs side by side: where their recipes differ, and how their figures came out. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.spec.tuning import RunRecord
from penstock.tuning.runs.types import Curve, RunComparison

LOWER_IS_BETTER = frozenset({"loss", "memory_mb", "grad_norm"})
NOT_COMPARED = frozenset({"name", "note"})


def compare_runs(runs: Sequence[RunRecord], curves: Sequence[Sequence[Curve]]) -> RunComparison:
    """Return the comparison; `curves` are each run's."""
    named = [{curve.name: curve for curve in each} for each in curves]
    return RunComparison(
        runs=list(runs),
        differences=find_differences([run.recipe for run in runs]),
        figures=find_figures(named),
        curves=named,
        same_data=_holds_same(runs),
    )


def find_differences(recipes: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return each key (`train.lr`) whose values differ, with one value a recipe; None where it is not set."""
    flat = [_flatten(recipe) for recipe in recipes]
    keys = sorted({key for each in flat for key in each} - NOT_COMPARED)
    found = {key: [each.get(key) for each in flat] for key in keys}
    return {key: values for key, values in found.items() if any(value != values[0] for value in values)}


def find_figures(curves: Sequence[Mapping[str, Curve]]) -> dict[str, list[float | None]]:
    """Return the last and the best value of each curve, one a run."""
    figures: dict[str, list[float | None]] = {}
    for name in sorted({name for each in curves for name in each}):
        short = name.partition(".")[2]
        points = [each[name].points if name in each else [] for each in curves]
        figures[f"{name} (last)"] = [found[-1].value if found else None for found in points]
        if name.startswith("eval."):
            pick = min if short in LOWER_IS_BETTER else max
            figures[f"{name} (best)"] = [
                pick(point.value for point in found) if found else None for found in points
            ]
    return figures


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _holds_same(runs: Sequence[RunRecord]) -> bool:
    """Whether the held-out rows are the same: same data, same split, same seed."""

    def heldout(run: RunRecord) -> Any:
        data = run.recipe.get("data", {})
        keys = ("eval", "eval_split", "eval_share", "max_length", "template", "system")
        shared = {key: data.get(key) for key in keys}
        if data.get("eval") is None:
            shared |= {"train": data.get("train"), "seed": run.recipe.get("seed")}
        return shared

    return all(heldout(run) == heldout(runs[0]) for run in runs)
