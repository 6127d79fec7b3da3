"""Evaluation and experiment files: TOML or JSON as people write them, paths in them relative to the file."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from penstock.base.errors import InvalidInput
from penstock.evals.types import ExperimentSpec
from penstock.spec.evaluations import EvaluationSpec


def read_evaluation_file(path: Path, overrides: Mapping[str, Any] | None = None) -> EvaluationSpec:
    """Return the specification of a file, with `overrides` (plain values, nested by name) put over it.

    Raises `InvalidInput` that names file and place.
    """
    content = _merge(read_document(path), overrides or {})
    content.setdefault("name", path.stem)
    spec: EvaluationSpec = convert_spec(resolve_paths(content, path.parent), EvaluationSpec, str(path))
    return spec


def read_experiment_file(path: Path) -> ExperimentSpec:
    """Return the grid of a file. Raises `InvalidInput` that names file and place."""
    content = read_document(path)
    content.setdefault("name", path.stem)
    inner = content.get("evaluation")
    if isinstance(inner, dict):
        inner.setdefault("name", content["name"])
        inner.setdefault(
            "target", {"model": next(iter(content.get("models") or content.get("prompts") or [""]))}
        )
        content["evaluation"] = resolve_paths(inner, path.parent)
    spec: ExperimentSpec = convert_spec(content, ExperimentSpec, str(path))
    return spec


def read_document(path: Path) -> dict[str, Any]:
    """Return the object that a TOML or JSON file holds."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise InvalidInput(f"There is no file {path}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}.") from error
    try:
        value = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except ValueError as error:
        raise InvalidInput(f"{path}: {error}.") from error
    if not isinstance(value, dict):
        raise InvalidInput(f"{path} holds no object.")
    return value


def convert_spec(content: Mapping[str, Any], kind: Any, where: str) -> Any:
    """Return the struct; raise `InvalidInput` that says where it is wrong."""
    try:
        return msgspec.convert(dict(content), kind, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"{where}: {error}.", where=where) from error


def resolve_paths(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the content with files named from `folder`; what is no file stays as it is."""
    found = dict(content)
    if isinstance(found.get("file"), str):
        found["file"] = str((folder / Path(found["file"]).expanduser()).resolve())
    target = found.get("target")
    if isinstance(target, dict):
        target = dict(target)
        outputs, python = target.get("outputs"), target.get("python")
        if isinstance(outputs, str) and not outputs.startswith("eval:"):
            target["outputs"] = str((folder / Path(outputs).expanduser()).resolve())
        if isinstance(python, str):
            target["python"] = _code(python, folder)
        found["target"] = target
    if isinstance(found.get("scorers"), list):
        found["scorers"] = [_scorer(each, folder) for each in found["scorers"]]
    return found


def _scorer(value: Any, folder: Path) -> Any:
    if isinstance(value, str):
        value = {"scorer": value}
    if isinstance(value, dict) and isinstance(value.get("scorer"), str):
        return {**value, "scorer": _code(value["scorer"], folder)}
    return value


def _code(name: str, folder: Path) -> str:
    """`file.py:function` becomes a whole path; `module:function` stays."""
    file, colon, function = name.rpartition(":")
    if colon and file.endswith(".py"):
        return f"{(folder / Path(file).expanduser()).resolve()}:{function}"
    return name


def _merge(content: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(content)
    for name, value in overrides.items():
        if isinstance(value, Mapping) and isinstance(merged.get(name), Mapping):
            merged[name] = _merge(merged[name], value)
        else:
            merged[name] = value
    return merged
