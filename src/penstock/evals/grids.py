"""The cells of a grid: every combination of prompts, models and parameters, each an evaluation of its own. Pure."""

import itertools
import json
from collections.abc import Mapping
from typing import Any

import msgspec

from penstock.evals.errors import ExperimentInvalid
from penstock.evals.types import Cell, ExperimentSpec
from penstock.spec.evaluations import EvaluationBudget, EvaluationSpec, TargetSpec

MAX_CELLS = 256
_PROMPT = "prompt:"


def make_cells(spec: ExperimentSpec) -> list[Cell]:
    """Return the cells in the order of prompts, then models, then parameters. Raises `ExperimentInvalid`."""
    target = spec.evaluation.target
    if target.python is not None or target.http is not None or target.outputs is not None:
        raise ExperimentInvalid("The cells of a grid ask models: the evaluation's target names a `model`.")
    prompts: list[str | None] = [*spec.prompts] or [target.prompt]
    own = target.model if not spec.prompts or not (target.model or "").startswith(_PROMPT) else None
    models: list[str | None] = [*spec.models] or [own]  # a prompt is no model for another prompt
    for name, values in spec.parameters.items():
        if not values:
            raise ExperimentInvalid(f"The parameter {name!r} has no values.", where=f"parameters.{name}")
    choices = [[(name, value) for value in values] for name, values in spec.parameters.items()]
    cells = []
    for prompt, model, *chosen in itertools.product(prompts, models, *choices):
        settings: dict[str, Any] = {}
        if prompt is not None:
            settings["prompt"] = prompt if prompt.startswith(_PROMPT) else f"{_PROMPT}{prompt}"
        if model is not None:
            settings["model"] = model
        settings.update(parameters=dict(chosen))
        cells.append(Cell(key=name_of(settings), settings=settings))
    if not cells or not any(cell.settings.get("prompt") or cell.settings.get("model") for cell in cells):
        raise ExperimentInvalid("The grid names no model and no prompt.", hint="Give `models` or `prompts`.")
    if len(cells) > MAX_CELLS:
        raise ExperimentInvalid(f"The grid has {len(cells)} cells; at most {MAX_CELLS} are run.")
    keys = [cell.key for cell in cells]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise ExperimentInvalid(f"The cell {twice!r} is there twice.")
    return cells


def name_of(settings: Mapping[str, Any]) -> str:
    """Return how a cell is called."""
    parts = [str(settings[name]) for name in ("prompt", "model") if settings.get(name)]
    parts += [
        f"{name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in settings["parameters"].items()
    ]
    return " · ".join(parts)


def cell_spec(spec: ExperimentSpec, cell: Cell) -> EvaluationSpec:
    """Return the evaluation of a cell. Its budget is the experiment's, which is kept for all together."""
    base = spec.evaluation
    prompt, model = cell.settings.get("prompt"), cell.settings.get("model")
    target = TargetSpec(
        name=cell.key,
        model=model or prompt,
        prompt=prompt if model else None,
        parameters={**base.target.parameters, **cell.settings["parameters"]},
    )
    return msgspec.structs.replace(
        base,
        name=f"{spec.name}: {cell.key}"[:200],
        target=target,
        budget=EvaluationBudget(),
        tags=[*dict.fromkeys([*base.tags, *spec.tags])],
        experiment=spec.name,
    )
