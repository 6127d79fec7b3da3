"""All scorers that ask a model, an embedder or an engine, by name, and the one way to make one from its specification."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import msgspec

from penstock.evals.judges import (
    choices,
    consistency,
    embedding,
    likelihood,
    pairwise,
    rubric,
    steps,
    triad,
)
from penstock.evals.judges.asking import JudgeParameters
from penstock.evals.judges.truth import truth_kind
from penstock.evals.scorers.catalogue import create_scorer
from penstock.evals.scorers.code import ScorerKind
from penstock.evals.scorers.errors import BadScorerParameters, UnknownScorer
from penstock.evals.scorers.types import Scorer, ScorerInfo
from penstock.evals.scorers.variants import take_turns, vary
from penstock.spec.evaluations import ScorerSpec
from penstock.spec.scores import ScoreSource

_ALL: tuple[ScorerKind[Any], ...] = (
    *rubric.KINDS,
    *steps.KINDS,
    *choices.KINDS,
    *triad.KINDS,
    *pairwise.KINDS,
    truth_kind(create_scorer),
    *consistency.KINDS,
    *embedding.KINDS,
    *likelihood.KINDS,
)
KINDS: Mapping[str, ScorerKind[Any]] = {kind.name: kind for kind in _ALL}


def create_judge(spec: ScorerSpec, *, load_python: bool = False) -> Scorer:
    """Return the scorer that `spec` asks for; its `n_samples` is how often a judge is asked of each output.

    Raises `UnknownScorer`, `BadScorerParameters`. Runs no code of anybody: `load_python` is taken and not needed.
    """
    del load_python
    kind = KINDS.get(spec.scorer)
    if kind is None:
        raise UnknownScorer(spec.scorer, KINDS)
    own, threshold, is_negated = take_turns(spec.scorer, spec.parameters)
    if spec.n_samples != 1:
        if not issubclass(kind.parameters, JudgeParameters):
            raise BadScorerParameters(
                spec.scorer, "`n_samples` is for model judges; this one gives one value"
            )
        own["samples"] = spec.n_samples
    return vary(kind.create(own, spec.name), threshold=threshold, is_negated=is_negated)


def list_judges() -> list[ScorerInfo]:
    """Return what each kind says of itself before it has parameters."""
    return [describe_kind(kind) for kind in KINDS.values()]


def describe_kind(kind: ScorerKind[Any]) -> ScorerInfo:
    """Return what a kind says of itself; its `parameters` are the defaults, required ones left out."""
    shared = {field.name for field in fields(ScorerInfo)} & {field.name for field in fields(ScorerKind)}
    facts = {name: getattr(kind, name) for name in shared - {"parameters"}}
    source: ScoreSource = "model" if "judge" in kind.needs else "code"
    return ScorerInfo(**facts, kind=source, parameters=read_defaults(kind.parameters))


def read_defaults(parameters: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the parameters that have a default, as JSON."""
    found: dict[str, Any] = {}
    for field in msgspec.structs.fields(parameters):
        if field.default is not msgspec.NODEFAULT:
            found[field.name] = msgspec.to_builtins(field.default)
        elif field.default_factory is not msgspec.NODEFAULT:
            found[field.name] = msgspec.to_builtins(field.default_factory())
    return found


def required_parameters(kind: ScorerKind[Any]) -> list[str]:
    """Return the names of the parameters that must be given."""
    return [field.name for field in msgspec.structs.fields(kind.parameters) if field.required]
