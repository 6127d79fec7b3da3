"""Short ways to ask a scorer in tests."""

import asyncio
from typing import Any

import numpy as np

from penstock.evals.scorers.catalogue import create_scorer
from penstock.evals.scorers.types import Preparable, Scorer, ScorerTools
from penstock.spec.cases import Case, Output
from penstock.spec.evaluations import ScorerSpec
from penstock.spec.scores import Score


def make(name: str, *, load_python: bool = False, **parameters: Any) -> Scorer:
    return create_scorer(ScorerSpec(scorer=name, parameters=parameters), load_python=load_python)


def ask(scorer: Scorer, case: Case, output: Output) -> Score:
    (score,) = asyncio.run(scorer.score(case, [output], ScorerTools()))
    return score


def judge(name: str, text: str | None, expected: Any = None, **parameters: Any) -> Score:
    return ask(make(name, **parameters), Case(id="1", expected=expected), Output(case_id="1", text=text))


def figure_of(name: str, pairs: list[tuple[str, Any]], **parameters: Any) -> float | None:
    """Return the figure over pairs of answer and expected answer; None where it is undefined."""
    scorer = make(name, **parameters)
    cases = [Case(id=str(at), expected=expected) for at, (_, expected) in enumerate(pairs)]
    if isinstance(scorer, Preparable):
        scorer = scorer.prepare(cases)
    scores = [
        ask(scorer, case, Output(case_id=case.id, text=text))
        for case, (text, _) in zip(cases, pairs, strict=True)
    ]
    assert scorer.figure is not None
    assert all(len(score.statistics) == scorer.figure.size for score in scores)
    value = float(scorer.figure.reduce(np.sum([score.statistics for score in scores], axis=0)))
    return None if np.isnan(value) else value
