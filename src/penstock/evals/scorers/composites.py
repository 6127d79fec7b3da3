"""Scorers made of scorers: several with weights, and the checks that each case brings along.

Parts are made by whoever knows all scorers, judges too. A composite is undefined when one of its parts is, unless it is told to
leave that part out; an error of a part is an error of the whole. Nothing missing ever counts as 0.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, Literal

import msgspec

from penstock.base.errors import PenstockError
from penstock.evals.scorers.errors import BadScorerParameters
from penstock.evals.scorers.types import (
    Figure,
    Need,
    Preparable,
    Scorer,
    ScorerInfo,
    ScorerTools,
    make_error,
    make_score,
    score_unanswered,
)
from penstock.spec.cases import Case, Output
from penstock.spec.evaluations import ScorerSpec
from penstock.spec.scores import Score

CreateScorer = Callable[[ScorerSpec], Scorer]
Combine = Literal["mean", "all", "any", "min", "max"]
MAX_PARTS = 50
_is_checking: ContextVar[bool] = ContextVar("penstock_is_checking", default=False)
"""Whether a case's checks are being held to; checks among them would begin all over again, without end."""
_NESTED = "`checks` cannot be one of a case's checks"


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One part of a composite."""

    scorer: str
    name: str = ""
    parameters: dict[str, Any] = {}
    """`not` and `threshold` may be among them."""
    weight: float = 1.0


class CompositeParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What it is made of. `all` and `any` take a part of at least 0.5 as met: give other parts a `threshold`."""

    parts: tuple[Part, ...] = ()
    combine: Combine = "mean"
    undefined: Literal["undefined", "leave_out"] = "undefined"
    """What an undefined part does to the whole."""


class ChecksParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the checks stand. The case's metadata holds a list of {scorer, parameters, weight}, as `parts` above."""

    key: str = "checks"
    """Of the case's metadata."""
    always: tuple[Part, ...] = ()
    """Further checks, for each case."""
    threshold_key: str = "threshold"
    """Of the metadata: from which weighted mean on the case passes; without it all checks must be met."""
    undefined: Literal["undefined", "leave_out"] = "undefined"
    """What an undefined check does to the whole."""


COMPOSITE = ScorerInfo(
    name="composite",
    summary="Several scorers as one: weighted mean, all, any, least or best.",
    undefined_when="a part is undefined (unless parts may be left out), or all are",
)
CHECKS = ScorerInfo(
    name="checks",
    scale="binary",
    summary="1 when the case's own checks are met: a list of scorers in its metadata.",
    undefined_when="the case brings no checks; a check is undefined",
)


def _negatable(info: ScorerInfo) -> bool:
    return info.low == 0.0 and info.high == 1.0


class CompositeScorer:
    """Combines the scores of its parts."""

    def __init__(
        self, parameters: CompositeParameters, parts: Sequence[tuple[Part, Scorer]], name: str
    ) -> None:
        self._parameters, self._parts, self._name = parameters, tuple(parts), name
        infos = [scorer.info for _, scorer in parts]
        if parameters.combine in {"all", "any"} or len({info.direction for info in infos}) > 1:
            for part, info in zip((part for part, _ in parts), infos, strict=True):
                if info.direction == "lower" or not _negatable(info):
                    raise BadScorerParameters(
                        "composite",
                        f"part {part.name or part.scorer!r} must be between 0 and 1 with higher better here; "
                        "give it `not = true` or a `threshold`",
                    )
        lows, highs = [info.low for info in infos], [info.high for info in infos]
        is_bounded = None not in lows and None not in highs
        stamps = [
            {"stamp": info.stamp, "weight": part.weight} for (part, _), info in zip(parts, infos, strict=True)
        ]
        needs: frozenset[Need] = frozenset().union(*(info.needs for info in infos))
        is_binary = parameters.combine in {"all", "any"} or (
            parameters.combine in {"min", "max"} and all(info.scale == "binary" for info in infos)
        )
        self._info = replace(
            COMPOSITE,
            parameters={
                **msgspec.to_builtins(parameters),
                "stamps": stamps,
            },
            direction=infos[0].direction,
            scale="binary" if is_binary else ("bounded" if is_bounded else "unbounded"),
            low=min(low for low in lows if low is not None) if is_bounded else None,
            high=max(high for high in highs if high is not None) if is_bounded else None,
            needs=needs,
            kind="model" if any(info.kind == "model" for info in infos) else "code",
            takes_errors=any(info.takes_errors for info in infos),
        )

    @property
    def info(self) -> ScorerInfo:
        """What it is; the stamps of its parts are among its parameters."""
        return self._info

    @property
    def name(self) -> str:
        """Of its score."""
        return self._name

    @property
    def figure(self) -> Figure | None:
        """Always the mean: the parts' own figures are not kept."""
        return None

    def prepare(self, cases: Iterable[Case], outputs: Iterable[Output] = ()) -> Scorer:
        """Return the composite of prepared parts."""
        if not any(isinstance(scorer, Preparable) for _, scorer in self._parts):
            return self
        listed, answered = list(cases), list(outputs)
        parts = [
            (part, scorer.prepare(listed, answered) if isinstance(scorer, Preparable) else scorer)
            for part, scorer in self._parts
        ]
        return CompositeScorer(self._parameters, parts, self._name)

    async def score(self, case: Case, outputs: Sequence[Output], tools: ScorerTools) -> list[Score]:
        """Return one score: of the output, or of all repeats together where a part needs them."""
        if "samples" in self._info.needs:
            return [await self._score_one(case, outputs, tools)]
        return [await self._score_one(case, [output], tools) for output in outputs]

    async def _score_one(self, case: Case, outputs: Sequence[Output], tools: ScorerTools) -> Score:
        scored = await score_parts(self._parts, case, outputs, tools)
        return combine_scores(self, scored, self._parameters.combine, self._parameters.undefined)


async def score_part(scorer: Scorer, case: Case, outputs: Sequence[Output], tools: ScorerTools) -> Score:
    """Return the main score that a part gives."""
    if not scorer.info.takes_errors and (failed := [each for each in outputs if each.status != "ok"]):
        return score_unanswered(scorer, failed[0])
    scores = await scorer.score(case, outputs, tools)
    main = [score for score in scores if score.name == scorer.name] or scores
    return main[0] if main else make_score(scorer, None, reason="it gave no score")


async def score_parts(
    parts: Sequence[tuple[Part, Scorer]], case: Case, outputs: Sequence[Output], tools: ScorerTools
) -> list[tuple[Part, Score]]:
    """Return each part with its score, asked for at once."""
    scores = await asyncio.gather(*(score_part(scorer, case, outputs, tools) for _, scorer in parts))
    return [(part, score) for (part, _), score in zip(parts, scores, strict=True)]


def combine_scores(
    whole: Scorer,
    scored: Sequence[tuple[Part, Score]],
    combine: Combine,
    undefined: Literal["undefined", "leave_out"],
    *,
    threshold: float | None = None,
) -> Score:
    """Return the score of `whole`; with a threshold it is 1 from that weighted mean on, and 0 below."""
    evidence = {
        "parts": [
            {
                "name": part.name or score.name,
                "value": score.value,
                "status": score.status,
                "weight": part.weight,
                **({"reason": score.reason} if score.reason else {}),
            }
            for part, score in scored
        ]
    }
    for part, score in scored:
        if score.status in {"error", "skipped"}:
            told = f"{part.name or score.name}: {score.reason}"
            failed = make_error(whole, told, fault=score.fault or "scorer", evidence=evidence)
            if score.status == "skipped":
                failed = msgspec.structs.replace(failed, status="skipped", fault=None)
            return failed
    known = [(part.weight, score.value) for part, score in scored if score.value is not None]
    lacking = [f"{part.name or score.name}: {score.reason}" for part, score in scored if score.value is None]
    if lacking and undefined == "undefined":
        return make_score(whole, None, reason="; ".join(lacking), evidence=evidence)
    total = sum(weight for weight, _ in known)
    if not known or (total <= 0 and combine in {"mean", "all", "any"}):
        return make_score(whole, None, reason="no part has a score with a weight", evidence=evidence)
    values = [value for _, value in known]
    if combine == "mean":
        value = sum(weight * each for weight, each in known) / total
    elif combine in {"all", "any"}:
        met = [each >= 0.5 for weight, each in known if weight > 0]
        value = float(all(met) if combine == "all" else any(met))
    else:
        value = min(values) if combine == "min" else max(values)
    if threshold is not None:
        evidence["mean"] = value  # type: ignore[assignment]
        value = float(value >= threshold)
    costs = [score.cost_usd for _, score in scored]
    made = make_score(whole, value, evidence=evidence)
    if whole.info.kind != "model":
        return made
    known_costs = [cost for cost in costs if cost is not None]
    return msgspec.structs.replace(
        made, cost_usd=sum(known_costs) if len(known_costs) == len(costs) else None
    )


class ChecksScorer:
    """Holds each output to the checks that its case brings along."""

    def __init__(
        self, parameters: ChecksParameters, create: CreateScorer, name: str, *, info: ScorerInfo | None = None
    ) -> None:
        self._parameters, self._create, self._name = parameters, create, name
        self._always = [(part, make_part(part, create)) for part in parameters.always]
        self._made: dict[bytes, Scorer] = {}
        self._info = info or replace(CHECKS, parameters=msgspec.to_builtins(parameters))

    @property
    def info(self) -> ScorerInfo:
        """What it is; the checks themselves are part of the dataset's version."""
        return self._info

    @property
    def name(self) -> str:
        """Of its score."""
        return self._name

    @property
    def figure(self) -> Figure | None:
        """The mean: the share of cases that pass."""
        return None

    def prepare(self, cases: Iterable[Case], outputs: Iterable[Output] = ()) -> Scorer:
        """Return itself, knowing what the cases' checks need; so a judge that is missing is told before the first call."""
        _ = outputs
        needs: set[Need] = set().union(*(scorer.info.needs for _, scorer in self._always))
        is_model = any(scorer.info.kind == "model" for _, scorer in self._always)
        takes_errors = False
        for case in cases:
            try:
                parts = self._parts_of(case)
            except ValueError:
                continue  # told by the score of that case
            for _, scorer in parts:
                needs |= scorer.info.needs
                is_model = is_model or scorer.info.kind == "model"
                takes_errors = takes_errors or scorer.info.takes_errors
        # what a check of one case needs, others need not have
        tools: frozenset[Need] = frozenset(needs & {"judge", "embedder", "likelihood"})
        info = replace(
            self._info, needs=tools, kind="model" if is_model else "code", takes_errors=takes_errors
        )
        return ChecksScorer(self._parameters, self._create, self._name, info=info)

    async def score(self, case: Case, outputs: Sequence[Output], tools: ScorerTools) -> list[Score]:
        """Return one score an output."""
        if _is_checking.get():
            return [make_error(self, _NESTED) for _ in outputs]
        token = _is_checking.set(True)
        try:
            return await self._score_all(case, outputs, tools)
        finally:
            _is_checking.reset(token)

    async def _score_all(self, case: Case, outputs: Sequence[Output], tools: ScorerTools) -> list[Score]:
        try:
            parts = [*self._always, *self._parts_of(case)]
        except ValueError as error:
            return [make_error(self, f"the case's checks: {error}") for _ in outputs]
        if not parts:
            return [make_score(self, None, reason="the case brings no checks") for _ in outputs]
        threshold = case.metadata.get(self._parameters.threshold_key)
        if not isinstance(threshold, int | float) or isinstance(threshold, bool):
            threshold = None
        scores = []
        for output in outputs:
            scored = await score_parts(parts, case, [output], tools)
            combine: Combine = "all" if threshold is None else "mean"
            scores.append(
                combine_scores(self, scored, combine, self._parameters.undefined, threshold=threshold)
            )
        return scores

    def _parts_of(self, case: Case) -> list[tuple[Part, Scorer]]:
        given = case.metadata.get(self._parameters.key)
        if given is None:
            return []
        if not isinstance(given, list) or len(given) > MAX_PARTS:
            raise ValueError(f"`{self._parameters.key}` is no list of at most {MAX_PARTS} scorers")
        parts = []
        for each in given:
            try:
                part = msgspec.convert(each, Part)
                if part.weight < 0:
                    raise ValueError(f"the weight of {part.scorer} is negative")
                key = msgspec.json.encode(part, order="sorted")
                scorer = self._made.get(key)
                if scorer is None:
                    scorer = self._made[key] = make_part(part, self._create)
            except (msgspec.ValidationError, PenstockError) as error:
                raise ValueError(str(error)) from error
            if scorer.info.name == CHECKS.name:
                raise ValueError(_NESTED)
            if scorer.info.direction == "lower" or not _negatable(scorer.info):
                raise ValueError(f"{part.scorer} needs `not = true` or a `threshold` to be a check")
            parts.append((part, scorer))
        return parts


def make_part(part: Part, create: CreateScorer) -> Scorer:
    """Return the scorer of a part."""
    return create(ScorerSpec(scorer=part.scorer, name=part.name, parameters=part.parameters))


def create_composite(given: Mapping[str, Any], name: str, create: CreateScorer) -> Scorer:
    """Return the composite of `given` parameters; raise `BadScorerParameters`."""
    try:
        parameters = msgspec.convert(dict(given), CompositeParameters)
    except msgspec.ValidationError as error:
        raise BadScorerParameters("composite", str(error)) from error
    if not 1 <= len(parameters.parts) <= MAX_PARTS:
        raise BadScorerParameters("composite", f"it has between 1 and {MAX_PARTS} `parts`")
    if any(part.weight < 0 for part in parameters.parts):
        raise BadScorerParameters("composite", "a weight is not negative")
    parts = [(part, make_part(part, create)) for part in parameters.parts]
    return CompositeScorer(parameters, parts, name or "composite")


def create_checks(given: Mapping[str, Any], name: str, create: CreateScorer) -> Scorer:
    """Return the scorer of the cases' own checks; raise `BadScorerParameters`."""
    try:
        parameters = msgspec.convert(dict(given), ChecksParameters)
    except msgspec.ValidationError as error:
        raise BadScorerParameters("checks", str(error)) from error
    return ChecksScorer(parameters, create, name or "checks")
