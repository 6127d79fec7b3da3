"""What an evaluation would do and cost, told before anything is spent. Asks no model."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import msgspec

from penstock.base.errors import PenstockError
from penstock.evals.early_stop import early_text
from penstock.evals.errors import NoCases
from penstock.evals.ports import CaseSource, PinnedTarget, Prices, TargetPins
from penstock.evals.running.control_run import STORED, CreateScorer, needs_local
from penstock.evals.running.scoring import check_names
from penstock.evals.running.targets import ModelTarget, request_body
from penstock.evals.scorers.types import Scorer
from penstock.evals.statistics.power import detectable_effect
from penstock.evals.store import EvaluationStore
from penstock.evals.types import EvaluationPlan
from penstock.spec.cases import Case
from penstock.spec.evaluations import EvaluationSpec

BYTES_PER_TOKEN = 4
"""Of English text with common tokenizers; a plan says that it is an estimate."""
UNKNOWN_OUTPUT_TOKENS = 200
DISCORDANCES = (0.1, 0.2, 0.3)
FEW_CASES = 30
_SAMPLED = 500
"""Cases whose size is measured; the others are taken to be like them."""


class Planner:
    """Makes plans."""

    def __init__(
        self,
        store: EvaluationStore,
        *,
        cases: CaseSource,
        pins: TargetPins,
        create_scorer: CreateScorer,
        prices: Prices | None,
    ) -> None:
        self._store = store
        self._cases = cases
        self._pins = pins
        self._create = create_scorer
        self._prices = prices

    def plan(self, spec: EvaluationSpec) -> EvaluationPlan:
        """Return the plan. Raises what reading cases raises; what else would go wrong stands in `problems`."""
        problems: list[str] = []
        pinned = self._pin(spec, problems)
        scorers = self._scorers(spec, problems)
        n_cases, groups, n_bytes, n_kept = self._measure(spec, pinned, problems)
        n_asked = n_cases * spec.repeats
        is_asked = spec.target.outputs is None
        n_calls = max(0, n_asked - n_kept) if is_asked else 0
        is_remote = is_asked and spec.target.model is not None
        input_tokens = n_bytes // BYTES_PER_TOKEN * n_calls // max(1, n_cases) if is_remote else None
        limit = spec.target.parameters.get("max_completion_tokens") or spec.target.parameters.get(
            "max_tokens"
        )
        per_answer = limit if isinstance(limit, int) else UNKNOWN_OUTPUT_TOKENS
        output_tokens = n_calls * per_answer if is_remote else None
        n_judge = sum(
            each.n_samples
            for each, made in zip(spec.scorers, scorers, strict=False)
            if made.info.kind == "model"
        )
        if n_cases < FEW_CASES:
            problems.append(f"{n_cases} cases decide little: intervals will be wide.")
        if spec.stop_when is not None:
            problems.append(early_text(spec.stop_when))
        pinned_spec = spec if pinned is None else msgspec.structs.replace(spec, target=pinned.spec)
        cost = self._cost(spec, input_tokens, output_tokens) if n_calls else Decimal(0)
        return EvaluationPlan(
            spec=pinned_spec,
            n_cases=n_cases,
            n_groups=len(groups) if len(groups) != n_cases else None,
            n_calls=n_calls,
            n_kept=n_kept,
            n_judge_calls=n_judge * n_asked,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cost_usd=cost,
            cost_note=_cost_note(cost, n_calls, n_judge, limit=limit, is_remote=is_remote),
            detectable=[_detectable(min(n_cases, len(groups)), share) for share in DISCORDANCES],
            problems=problems,
        )

    def _pin(self, spec: EvaluationSpec, problems: list[str]) -> PinnedTarget | None:
        if spec.target.model is None:
            return None
        try:
            return self._pins.pin(spec.target)
        except PenstockError as error:
            problems.append(str(error))
            return None

    def _scorers(self, spec: EvaluationSpec, problems: list[str]) -> list[Scorer]:
        made = []
        for each in spec.scorers:
            try:
                made.append(self._create(each))
            except PenstockError as error:
                if not needs_local(spec):
                    problems.append(str(error))
        try:
            check_names(made)
        except PenstockError as error:
            problems.append(str(error))
        if not spec.scorers:
            problems.append("No scorer is named: outputs will be kept and can be scored later.")
        return made

    def _read(self, spec: EvaluationSpec) -> Iterable[Case]:
        source = spec.target.outputs or ""
        if spec.dataset is None and spec.file is None and source.startswith(STORED):
            origin = self._store.get(source)
            return self._store.cases(origin.set_id) if origin.set_id else []
        wanted = spec.dataset or spec.file
        if wanted is None:
            raise NoCases("There are no cases: name a `dataset` or a `file`.")
        return self._cases.read(wanted, where=spec.where, limit=spec.limit, seed=spec.seed).cases

    def _measure(
        self, spec: EvaluationSpec, pinned: PinnedTarget | None, problems: list[str]
    ) -> tuple[int, set[str], int, int]:
        """Return the number of cases, their groups, the bytes of all requests (about), and the outputs kept already."""
        n_cases, n_bytes, n_kept, n_measured = 0, 0, 0, 0
        groups: set[str] = set()
        target = None if pinned is None else ModelTarget(pinned=pinned, asker=None)  # type: ignore[arg-type]
        keys: list[str] = []
        for case in self._read(spec):
            n_cases += 1
            groups.add(f"g:{case.group}" if case.group is not None else f"c:{case.id}")
            if pinned is None or target is None:
                continue
            try:
                if n_measured < _SAMPLED:
                    n_bytes += len(msgspec.json.encode(request_body(pinned, case)))
                    n_measured += 1
                if spec.cache:
                    found = (target.request_key(case, repeat) for repeat in range(spec.repeats))
                    keys += [key for key in found if key is not None]
            except PenstockError as error:
                if not any(error.message in told for told in problems):
                    problems.append(str(error))
            if len(keys) >= _SAMPLED:
                n_kept += len(self._store.kept(keys))
                keys = []
        if not n_cases:
            raise NoCases("There is no case to ask.", hint="The dataset is empty, or no row matches `where`.")
        n_kept += len(self._store.kept(keys)) if keys else 0
        scale = n_cases / n_measured if n_measured else 0.0
        return n_cases, groups, int(n_bytes * scale), n_kept

    def _cost(
        self, spec: EvaluationSpec, input_tokens: int | None, output_tokens: int | None
    ) -> Decimal | None:
        model = spec.target.model
        if self._prices is None or model is None or input_tokens is None or output_tokens is None:
            return None
        return self._prices.estimate_usd(model, input_tokens=input_tokens, output_tokens=output_tokens)


def _cost_note(cost: Decimal | None, n_calls: int, n_judge: int, *, limit: Any, is_remote: bool) -> str:
    if not n_calls:
        return "Nothing is asked: all outputs are there."
    if not is_remote:
        return "What the target itself spends is not known here."
    if cost is None:
        return "No price is known for this model."
    answer = (
        f"{limit} tokens an answer, its limit"
        if isinstance(limit, int)
        else f"{UNKNOWN_OUTPUT_TOKENS} tokens an answer"
    )
    judges = " Judges come on top." if n_judge else ""
    return f"An estimate: {BYTES_PER_TOKEN} bytes a token, {answer}.{judges}"


def _detectable(n: int, discordance: float) -> dict[str, Any]:
    return {"discordance": discordance, "difference": detectable_effect(n, discordance=discordance)}
