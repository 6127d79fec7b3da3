"""What `penstock eval plan` and `run` are told: a file, options over it, and what both make together."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from penstock.base.errors import InvalidInput
from penstock.main.eval_files import convert_spec, read_evaluation_file, resolve_paths
from penstock.spec.evaluations import EvaluationSpec

FileArgument = Annotated[Path | None, typer.Argument(help="Evaluation file, TOML or JSON.")]
DatasetOption = Annotated[str | None, typer.Option(help="dataset:NAME@ALIAS, or a file of cases.")]
TargetOption = Annotated[
    str | None, typer.Option(help="What answers: a route, prompt:NAME@ALIAS, an app; or file.py:function.")
]
ScorerOption = Annotated[
    list[str] | None,
    typer.Option("--scorer", help="Name of a scorer, or as JSON with parameters; may be repeated."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="KEY=VALUE of the file, such as target.parameters.temperature=0."),
]


def build_spec(
    file: Path | None,
    *,
    dataset: str | None,
    target: str | None,
    scorers: list[str] | None,
    sets: list[str] | None,
    further: dict[str, Any],
) -> EvaluationSpec:
    """Return the specification that a file and options say; options win."""
    changes: dict[str, Any] = {name: value for name, value in further.items() if value not in (None, {})}
    if dataset is not None:
        is_ref = dataset.startswith("dataset:")
        changes["dataset" if is_ref else "file"] = (
            dataset if is_ref else str(Path(dataset).expanduser().resolve())
        )
    if target is not None:
        is_code = ".py:" in target or (
            ":" in target and not _is_asset(target) and not target.startswith("eval:")
        )
        key = (
            "outputs"
            if target.startswith("eval:") or target.endswith(".jsonl")
            else "python"
            if is_code
            else "model"
        )
        changes["target"] = {**changes.get("target", {}), key: target}
    if scorers:
        changes["scorers"] = [read_scorer(each) for each in scorers]
    for each in sets or ():
        _set(changes, each)
    changes = resolve_paths(changes, Path.cwd())
    if file is not None:
        return read_evaluation_file(file, changes)
    changes.setdefault("name", (dataset or target or "evaluation").rpartition("/")[2])
    if "target" not in changes:
        raise InvalidInput("Name a file, or a --target and a --dataset.")
    spec: EvaluationSpec = convert_spec(changes, EvaluationSpec, "options")
    return spec


def _is_asset(target: str) -> bool:
    return target.partition(":")[0] in {"prompt", "model", "app"}


def read_scorer(text: str) -> Any:
    if not text.startswith("{"):
        return {"scorer": text}
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"--scorer {text!r} is no JSON: {error}.") from error


def _set(changes: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InvalidInput(f"--set {text!r} must be KEY=VALUE.")
    try:
        parsed: Any = json.loads(value)
    except ValueError:
        parsed = value
    *parents, last = key.split(".")
    at = changes
    for name in parents:
        at = at.setdefault(name, {})
    at[last] = parsed
