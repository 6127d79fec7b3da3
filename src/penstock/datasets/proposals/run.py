"""One run: asks a model seed by seed within its budget, reads strictly, refuses what is there already, queues the rest.

Calls go out a few at a time; each wave is one step of the job's journal, so a run that was killed goes on without asking,
or paying, twice. A reply that cannot be used is counted by why and never becomes a proposal.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

import msgspec
from sqlalchemy import Engine

from penstock.base.digest import digest_json
from penstock.datasets.cleaning.near_index import NearIndex
from penstock.datasets.cleaning.texts import row_text
from penstock.datasets.proposals import queries
from penstock.datasets.proposals.ports import ChatModels, PassageSource
from penstock.datasets.proposals.reading import read_answer
from penstock.datasets.proposals.seeds import (
    Seed,
    passage_fields,
    passage_seeds,
    passages_of_rows,
    row_seeds,
    variant_fields,
)
from penstock.datasets.proposals.types import Outcome, Plan, Proposal, ProposalReport, ProposalRequest
from penstock.datasets.proposals.wording import ask_about_passages, ask_about_row, needs_answer, prompt_digest
from penstock.datasets.service import DatasetService
from penstock.datasets.types import DatasetVersion
from penstock.spec.datasets import DatasetRow

AT_ONCE = 4
OUTPUT_TOKENS_EACH = 160
"""Allowed for one item when a cost is estimated."""
BYTES_PER_TOKEN = 4
REPLY_TOKENS_EACH = 768
"""A reply may have so many for each item: a model that rambles is cut off, and its reply counted as no JSON."""


class RunContext(Protocol):
    """The part of a job's context that a run uses."""

    @property
    def job_id(self) -> str:
        """The job's id."""
        ...

    def step(self, name: str, inputs: dict[str, Any], fn: Callable[[], Any]) -> Any:
        """Return what `fn` returned, running it once for these inputs."""
        ...

    def progress(self, fraction: float | None, message: str | None = None) -> None:
        """Say how far it is."""
        ...

    def log(self, text: str) -> None:
        """Write a line."""
        ...


@dataclass(frozen=True, kw_only=True)
class _Call:
    number: int
    seed: Seed
    messages: list[dict[str, str]]
    parameters: dict[str, Any]
    estimate_usd: Decimal | None
    input_tokens: int


class ProposalRun:
    """Plans and runs requests. Every method may be called from any thread."""

    def __init__(
        self,
        engine: Engine,
        datasets: DatasetService,
        models: ChatModels,
        passages: PassageSource,
        *,
        clock: Callable[[], int],
    ) -> None:
        self._engine = engine
        self._datasets = datasets
        self._models = models
        self._passages = passages
        self._clock = clock

    def plan(self, request: ProposalRequest) -> Plan:
        """Return what the request would do."""
        base = self._datasets.get(request.dataset)
        calls = self._calls(request, base)
        costs = [each.estimate_usd for each in calls]
        known = [each for each in costs if each is not None]
        return Plan(
            ref=base.ref,
            n_seeds=len(calls),
            n_calls=len(calls),
            n_proposals=sum(_wanted(request, each.number) for each in calls),
            input_tokens=sum(each.input_tokens for each in calls),
            output_tokens=sum(_wanted(request, each.number) * OUTPUT_TOKENS_EACH for each in calls),
            cost_usd=sum(known, Decimal(0)) if len(known) == len(costs) else None,
            prompt_digest=prompt_digest(request.kind),
        )

    def run(self, ctx: RunContext, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Do the job with this spec and return its report."""
        request = msgspec.convert(dict(spec), ProposalRequest, strict=False)
        base = self._datasets.get(request.dataset)
        calls = self._calls(request, base)
        ctx.log(f"{len(calls)} calls of {request.model} about {base.ref}")
        index = self._known(base)
        ctx.progress(0.05, "asking")
        run = _Run(ctx, request, base, self._models, index)
        done = 0
        while done < len(calls):
            wave = run.affordable(calls[done : done + AT_ONCE])
            if not wave:
                ctx.log(f"stopped: {run.tally.stopped}")
                break
            kept = run.take(wave, run.ask(wave), self._clock())
            with self._engine.begin() as connection:
                queries.insert_new(connection, kept)
            done += len(wave)
            said = f"{run.tally.n_proposed} proposals from {run.tally.n_calls} calls"
            ctx.progress(0.05 + 0.95 * done / len(calls), said)
        report: dict[str, Any] = msgspec.to_builtins(run.tally.report())
        return report

    def _calls(self, request: ProposalRequest, base: DatasetVersion) -> list[_Call]:
        n_calls = -(-request.n // _each(request))
        if request.max_calls is not None:
            n_calls = min(n_calls, request.max_calls)
        calls = []
        for number, seed in enumerate(self._seeds(request, base, n_calls)):
            n = _wanted(request, number)
            messages = (
                ask_about_passages(seed.passages, n=n)
                if seed.row is None
                else ask_about_row(request.kind, seed.question, seed.answer, n=n, language=request.language)
            )
            size = sum(len(each["content"].encode("utf-8", "replace")) for each in messages)
            tokens = size // BYTES_PER_TOKEN + 1
            parameters: dict[str, Any] = {
                "seed": request.seed + number,
                "max_tokens": (n + 1) * REPLY_TOKENS_EACH,
            }
            if request.temperature is not None:
                parameters["temperature"] = request.temperature
            calls.append(
                _Call(
                    number=number,
                    seed=seed,
                    messages=messages,
                    parameters=parameters,
                    input_tokens=tokens,
                    estimate_usd=self._models.price(
                        request.model, input_tokens=tokens, output_tokens=n * OUTPUT_TOKENS_EACH
                    ),
                )
            )
        return calls

    def _seeds(self, request: ProposalRequest, base: DatasetVersion, n: int) -> list[Seed]:
        rows = self._datasets.read(base.ref, request.where)
        if request.kind != "questions":
            return row_seeds(rows, base.facts.format, request.kind, n=n, seed=request.seed)
        passages = self._passages.read(request.knowledge) if request.knowledge else passages_of_rows(rows)
        return passage_seeds(passages, n=n, seed=request.seed)

    def _known(self, base: DatasetVersion) -> NearIndex:
        """Return what is there already: the rows, and proposals that wait."""
        index = NearIndex()
        for row in self._datasets.read(base.ref):
            index.add(row.id, row_text(row, "inputs"))
        with self._engine.connect() as connection:
            waiting = queries.list_page(
                connection,
                dataset=base.name,
                states=("pending", "accepted"),
                batch=None,
                after=None,
                limit=100_000,
            )
        for each in waiting:
            index.add(each.id, row_text(DatasetRow(id=each.id, fields=each.fields), "inputs"))
        return index


class _Run:
    """One run under way: what is asked, what came, what is there already."""

    def __init__(
        self,
        ctx: RunContext,
        request: ProposalRequest,
        base: DatasetVersion,
        models: ChatModels,
        index: NearIndex,
    ) -> None:
        self._ctx = ctx
        self._request = request
        self._base = base
        self._models = models
        self._index = index
        self.tally = _Tally()

    def affordable(self, wave: Sequence[_Call]) -> list[_Call]:
        """Return the calls of a wave that the budget allows; none, and a note of it, when it ends here.

        What a call may cost at most is reserved: its input, and the longest reply that it may give.
        """
        request, tally = self._request, self.tally
        if request.budget_usd is None:
            return list(wave)
        allowed: list[_Call] = []
        reserved = tally.cost_usd or Decimal(0)
        for call in wave:
            most = self._price(2 * call.input_tokens, int(call.parameters["max_tokens"]))
            if most is None or tally.cost_usd is None or reserved + most > request.budget_usd:
                break
            reserved += most
            allowed.append(call)
        if not allowed:
            tally.stopped = "budget"
        return allowed

    def ask(self, wave: Sequence[_Call]) -> list[Outcome]:
        """Return what each call of a wave came to; a wave that is in the journal is not asked again."""

        def ask_all() -> list[dict[str, Any]]:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                return [msgspec.to_builtins(each) for each in pool.map(self._ask_one, wave)]

        inputs = {
            "ref": self._base.ref,
            "model": self._request.model,
            "calls": [digest_json([call.messages, call.parameters]) for call in wave],
        }
        return msgspec.convert(self._ctx.step(f"calls from {wave[0].number}", inputs, ask_all), list[Outcome])

    def _ask_one(self, call: _Call) -> Outcome:
        answer = self._models.ask(
            self._request.model,
            call.messages,
            parameters=call.parameters,
            session=f"propose:{self._ctx.job_id}",
        )
        cost: Decimal | None = None
        if answer.input_tokens is not None and answer.output_tokens is not None:
            cost = self._price(answer.input_tokens, answer.output_tokens)
        elif answer.status == "error":
            cost = Decimal(0)  # refused before a model worked on it
        elif answer.status == "timeout":
            cost = call.estimate_usd  # the model may have worked all the same
        seed = call.seed
        return read_answer(
            answer,
            n=_wanted(self._request, call.number),
            wants_answer=needs_answer(self._request.kind, has_answer=seed.answer is not None),
            passage_ids=None if seed.row is not None else [str(each.id) for each in seed.passages],
            cost_usd=None if cost is None else str(cost),
        )

    def _price(self, input_tokens: int, output_tokens: int) -> Decimal | None:
        return self._models.price(self._request.model, input_tokens=input_tokens, output_tokens=output_tokens)

    def take(self, wave: Sequence[_Call], outcomes: Iterable[Outcome], now_ns: int) -> list[Proposal]:
        """Return what a wave brought, but for what is there already."""
        kept: list[Proposal] = []
        for call, outcome in zip(wave, outcomes, strict=True):
            self.tally.note(outcome)
            if outcome.status != "ok":
                self._ctx.log(f"call {call.number + 1}: {outcome.status}: {outcome.reason[:300]}")
            for place, item in enumerate(outcome.items):
                proposal = self._proposal(call, outcome, item, place, now_ns)
                text = row_text(DatasetRow(id=proposal.id, fields=proposal.fields), "inputs")
                found = self._index.find(text)
                if found is not None and found[0] != proposal.id:
                    self.tally.n_duplicates += 1
                    continue
                self._index.add(proposal.id, text)
                kept.append(proposal)
        self.tally.n_proposed += len(kept)
        return kept

    def _proposal(
        self, call: _Call, outcome: Outcome, item: Mapping[str, Any], place: int, now_ns: int
    ) -> Proposal:
        request, base, job_id = self._request, self._base, self._ctx.job_id
        form, seed = base.facts.format, call.seed
        detail: dict[str, Any] = {
            "model": request.model,
            "kind": request.kind,
            "prompt_digest": prompt_digest(request.kind),
            "seed": request.seed + call.number,
            "call_cost_usd": outcome.cost_usd,
            "trace_id": outcome.trace_id,
            "job": job_id,
        }
        if seed.row is None:
            fields = passage_fields(seed, form, dict(item))
            detail |= {"passage_ids": list(item["passage_ids"]), "knowledge": request.knowledge}
            used = [each for each in seed.passages if each.id in item["passage_ids"]]
            group = next((each.document for each in used if each.document), None) or str(used[0].id)
            split = None
        else:
            fields = variant_fields(seed, form, request.kind, item["question"], item.get("answer"))
            detail |= {"seed_row": seed.key, "language": request.language}
            group, split = seed.row.group or seed.row.id, seed.row.split
        return Proposal(
            id=f"prop_{job_id.removeprefix('job_')}_{call.number:05d}_{place:02d}",
            dataset=base.name,
            ref=base.ref,
            format=form,
            batch=job_id,
            kind=request.kind,
            state="pending",
            fields=fields,
            split=split,
            group=group,
            tags=["synthetic", request.kind],
            detail={name: value for name, value in detail.items() if value is not None},
            seed_text=seed.text,
            created_ns=now_ns,
        )


class _Tally:
    """Counts of a run."""

    def __init__(self) -> None:
        self.n_calls = 0
        self.n_proposed = 0
        self.n_duplicates = 0
        self.calls: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self.cost_usd: Decimal | None = Decimal(0)
        self.stopped: str | None = None

    def note(self, outcome: Outcome) -> None:
        """Count one call."""
        self.n_calls += 1
        self.calls[outcome.status] += 1
        self.left_out.update(outcome.left_out)
        if outcome.status == "garbage":
            self.left_out[outcome.reason] += 1
        if self.cost_usd is not None:
            self.cost_usd = None if outcome.cost_usd is None else self.cost_usd + Decimal(outcome.cost_usd)

    def report(self) -> ProposalReport:
        """Return the counts."""
        return ProposalReport(
            n_calls=self.n_calls,
            n_proposed=self.n_proposed,
            n_duplicates=self.n_duplicates,
            calls=dict(self.calls),
            left_out=dict(self.left_out),
            cost_usd=self.cost_usd,
            stopped=self.stopped,
        )


def _each(request: ProposalRequest) -> int:
    """Return how many items one call is asked for: a translation has one."""
    return 1 if request.kind == "translate" else min(request.per_call, request.n)


def _wanted(request: ProposalRequest, number: int) -> int:
    """Return how many items this call is asked for, so that all together are `n`."""
    return max(1, min(_each(request), request.n - number * _each(request)))
