"""All scorers that are code, by name, and the one way to make one from its specification."""

from collections.abc import Mapping
from typing import Any

from penstock.evals.scorers import (
    classes,
    composites,
    form,
    matching,
    overlap,
    retrieval,
    safety,
    structure,
    translation,
)
from penstock.evals.scorers.code import ScorerKind
from penstock.evals.scorers.composites import CreateScorer, create_checks, create_composite
from penstock.evals.scorers.errors import PythonNotLoaded, UnknownScorer
from penstock.evals.scorers.python import PythonScorer, is_python
from penstock.evals.scorers.types import Scorer, ScorerInfo
from penstock.evals.scorers.variants import take_turns, vary
from penstock.spec.evaluations import ScorerSpec

KINDS: Mapping[str, ScorerKind[Any]] = {
    kind.name: kind
    for module in (matching, overlap, translation, classes, structure, retrieval, form, safety)
    for kind in module.KINDS
}
COMPOSITES = {"composite": create_composite, "checks": create_checks}


def create_scorer(
    spec: ScorerSpec,
    *,
    load_python: bool = False,
    create_part: CreateScorer | None = None,
    create_check: CreateScorer | None = None,
) -> Scorer:
    """Return the scorer that `spec` asks for.

    `load_python` allows `module:function` and `file.py:function`, which run code of whoever wrote the specification.
    `create_part` makes the parts of composites, `create_check` the checks of cases; whoever knows judges passes itself
    in. Checks come with rows, from anybody: whatever makes them must never load code.
    Raises `UnknownScorer`, `BadScorerParameters`, `PythonNotLoaded`, `PythonScorerNotFound`.
    """
    own, threshold, is_negated = take_turns(spec.scorer, spec.parameters)
    made: Scorer
    if spec.scorer in KINDS:
        made = KINDS[spec.scorer].create(own, spec.name)
    elif spec.scorer == "checks":
        made = create_checks(own, spec.name, create_check or create_scorer)
    elif spec.scorer in COMPOSITES:
        create = create_part or (lambda part: create_scorer(part, load_python=load_python))
        made = COMPOSITES[spec.scorer](own, spec.name, create)
    elif is_python(spec.scorer):
        if not load_python:
            raise PythonNotLoaded(spec.scorer)
        made = PythonScorer(spec.scorer, own, spec.name)
    else:
        raise UnknownScorer(spec.scorer, [*KINDS, *COMPOSITES])
    return vary(made, threshold=threshold, is_negated=is_negated)


def list_scorers() -> list[ScorerInfo]:
    """Return what the built-in scorers say of themselves with their default parameters, group by group."""
    infos = [kind.describe(kind.parameters()) for kind in KINDS.values()]
    return [*infos, composites.COMPOSITE, composites.CHECKS]


def group_of(name: str) -> str:
    """Return under which heading a scorer stands in lists."""
    return KINDS[name].group if name in KINDS else "composed"
