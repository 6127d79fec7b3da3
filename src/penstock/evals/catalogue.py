"""Every scorer there is: code and judges, made from one kind of specification."""

from collections.abc import Callable

from penstock.evals.judges.catalogue import KINDS as JUDGE_KINDS
from penstock.evals.judges.catalogue import create_judge, list_judges
from penstock.evals.scorers.catalogue import KINDS, create_scorer, list_scorers
from penstock.evals.scorers.errors import UnknownScorer
from penstock.evals.scorers.types import Scorer, ScorerInfo
from penstock.spec.evaluations import ScorerSpec

REGISTERED = "scorer:"
"""Of the registry: `scorer:NAME@ALIAS`."""
ReadScorer = Callable[[str], ScorerSpec]
"""Returns the specification that a registered version of a scorer holds."""


class Catalogue:
    """Makes scorers. `read_registered` looks up `scorer:NAME@ALIAS`; without it such names are unknown."""

    def __init__(self, *, load_python: bool = False, read_registered: ReadScorer | None = None) -> None:
        """`load_python` runs code of whoever wrote the specification: never in control."""
        self._load_python = load_python
        self._read_registered = read_registered

    def create(self, spec: ScorerSpec) -> Scorer:
        """Return the scorer. Raises `UnknownScorer` with near names, `BadScorerParameters`, and what loading code raises."""
        if spec.scorer.startswith(REGISTERED):
            if self._read_registered is None:
                raise UnknownScorer(spec.scorer, [*KINDS, *JUDGE_KINDS])
            held = self._read_registered(spec.scorer)
            named = ScorerSpec(
                scorer=held.scorer,
                name=spec.name or held.name,
                parameters={**held.parameters, **spec.parameters},
                n_samples=spec.n_samples if spec.n_samples != 1 else held.n_samples,
            )
            return self.create(named)
        if spec.scorer in JUDGE_KINDS or spec.scorer.removeprefix("not-") in JUDGE_KINDS:
            return create_judge(spec)
        try:
            without_code = Catalogue(read_registered=self._read_registered)
            return create_scorer(
                spec,
                load_python=self._load_python,
                create_part=self.create,
                create_check=without_code.create,
            )
        except UnknownScorer:
            raise UnknownScorer(spec.scorer, [*KINDS, *JUDGE_KINDS, "composite", "checks"]) from None

    def list(self) -> "list[ScorerInfo]":
        """Return what all of them say of themselves."""
        return [*list_scorers(), *list_judges()]
