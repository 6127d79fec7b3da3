"""Gate files as people write them: paths in them relative to the file, the evaluation read with them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from penstock.base.errors import PenstockError
from penstock.evals.gates.errors import GateInvalid
from penstock.evals.gates.files import make_gate
from penstock.evals.gates.types import GateSpec
from penstock.main.eval_files import convert_spec, read_document, read_evaluation_file, resolve_paths
from penstock.spec.evaluations import EvaluationSpec, TargetSpec


@dataclass(frozen=True, kw_only=True)
class GateFile:
    """A gate file, read."""

    spec: GateSpec
    members: Mapping[str, Any]
    """What decides the verdict, as it is sent to control: the file without evaluation, candidate and baseline."""


def read_gate_file(path: Path) -> GateFile:
    """Return the gate of a file. Raises `GateInvalid`, `RuleInvalid`, and what its evaluation's file raises."""
    content = read_document(path)
    content.setdefault("name", path.stem.removesuffix(".gate"))
    given = content.get("evaluation")
    if isinstance(given, str):
        content["evaluation"] = read_evaluation_file((path.parent / given).resolve())
    elif isinstance(given, dict):
        given.setdefault("name", content["name"])
        if content.get("candidate") and "target" not in given:
            given["target"] = {"model": content["candidate"]}
        content["evaluation"] = convert_spec(resolve_paths(given, path.parent), EvaluationSpec, str(path))
    try:
        spec = make_gate(content)
    except PenstockError as error:
        error.message = f"{path}: {error.message}"
        raise
    left_out = {"evaluation", "candidate", "baseline"}
    return GateFile(spec=spec, members={key: value for key, value in content.items() if key not in left_out})


def side_of(spec: GateSpec, named: str | None) -> EvaluationSpec | str:
    """Return what a side is: the id of an evaluation, or the evaluation that has to be run for it.

    `named` is `eval:ID`, a route, an asset, `file.py:function`, a file of outputs; None: the evaluation's own target.
    """
    if named is not None and named.startswith(("eval:", "eval_")):
        return named.removeprefix("eval:")
    if spec.evaluation is None:
        raise GateInvalid(
            f"The gate {spec.name!r} names no evaluation to run for {named or 'its candidate'}.",
            hint='Write evaluation = "FILE" into it, or give --candidate eval:ID (and --baseline eval:ID).',
        )
    if named is None:
        return spec.evaluation
    base = spec.evaluation.target
    if named.endswith(".jsonl"):
        target = TargetSpec(outputs=str(Path(named).expanduser().resolve()))
    elif ".py:" in named:
        file, _, function = named.rpartition(":")
        target = TargetSpec(python=f"{Path(file).expanduser().resolve()}:{function}")
    else:
        target = TargetSpec(model=named, parameters=base.parameters, prompt=base.prompt)
    name = f"{spec.evaluation.name}: {named}"[:200]  # lists show one row a side
    return msgspec.structs.replace(spec.evaluation, target=target, name=name)
