"""The check step: how much of an answer its sources bear out, and which sentences and quotes they do not. A span of its own."""

import asyncio
import re
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

from penstock.apps.citations import cite, measure_grounding, split_claims, without_marks
from penstock.apps.evidence import CheckCitations, CheckedClaim, CitationReport, CitedText
from penstock.apps.grounding import Source
from penstock.apps.run_state import Run
from penstock.apps.steps import Steps
from penstock.apps.tracing import Tracer
from penstock.apps.types import Unsupported, UnsupportedWhy
from penstock.base.errors import BugError

MIN_QUOTED_WORDS = 3
_QUOTED = re.compile(r"[\"“„«]([^\"“”„«»\n]{8,600})[\"”“»]")


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What a check found."""

    grounded: float | None
    """Share of the answer's sentences that are borne out; None where it cannot be told."""
    unsupported: tuple[Unsupported, ...] = ()
    has_false_quote: bool = False
    """Whether the answer quotes what stands nowhere: never borne out, whatever share of its sentences is."""

    def is_below(self, least: float) -> bool:
        """Return whether too little is borne out."""
        return self.has_false_quote or (self.grounded is not None and self.grounded < least)


class Checking:
    """Checks for any number of runs at once on one event loop."""

    def __init__(
        self, steps: Steps, tracer: Tracer, *, check_citations: CheckCitations | None, executor: Executor
    ) -> None:
        self._steps = steps
        self._tracer = tracer
        self._check_citations = check_citations
        self._executor = executor

    async def check(self, run: Run, reply: str, text: str, sources: Sequence[Source]) -> Checked:
        """Return what the sources bear out of `text`, which readers see of the model's `reply`."""
        kind = run.app.check.kind
        if kind == "model" and split_claims(text):
            return Checked(grounded=await self._steps.check(run, text, sources))
        if kind == "citations":
            return await self._check_citations_of(run, reply, text, sources)
        with self._tracer.span("check", "guard", run.span.below) as span:
            span.input = {"answer": text}
            grounded = measure_grounding(text, sources)
            span.output = {"grounded": grounded}
            return Checked(grounded=grounded)

    async def _check_citations_of(
        self, run: Run, reply: str, text: str, sources: Sequence[Source]
    ) -> Checked:
        if self._check_citations is None:
            raise BugError("An app checks citations, and nobody was given to check them.")
        with self._tracer.span("check", "guard", run.span.below) as span:
            plain = without_marks(text)
            cited = _find_cited(reply, text, sources)
            span.input = {"answer": plain, "cited": [each.passage_id for each in cited]}
            cited += _find_quotes(plain, cited)
            work = partial(self._check_citations, plain, cited)
            report = await asyncio.get_running_loop().run_in_executor(self._executor, work)
            false = [each.quote for each in report.quotes if each.verdict == "absent"]
            span.output = _describe(report)
            span.attributes["app.n_false_quotes"] = len(false)
            return Checked(
                grounded=report.share_carried,
                unsupported=(
                    *(
                        _place(text, claim.claim, _why(claim))
                        for claim in report.claims
                        if not claim.is_carried
                    ),
                    *(_place(text, quote, "quote-not-found") for quote in false),
                ),
                has_false_quote=bool(false),
            )


def _find_cited(reply: str, text: str, sources: Sequence[Source]) -> list[CitedText]:
    passages = {source.passage.passage_id: source.passage.text for source in sources}
    return [
        CitedText(passage_id=each.passage_id, text=passages[each.passage_id], quote=each.quote)
        for each in cite(reply, text, sources)
    ]


def _find_quotes(text: str, cited: Sequence[CitedText]) -> list[CitedText]:
    """Return what the answer itself puts in quotation marks, each against all that it cites."""
    whole = "\n\n".join(dict.fromkeys(each.text for each in cited))
    return [
        CitedText(passage_id="", text=whole, quote=quote)
        for quote in (found.group(1).strip().rstrip(".,;:!?…") for found in _QUOTED.finditer(text))
        if len(quote.split()) >= MIN_QUOTED_WORDS
    ]


def _why(claim: CheckedClaim) -> UnsupportedWhy:
    return "number-not-found" if claim.missing_numbers else "not-carried"


def _place(text: str, part: str, why: UnsupportedWhy) -> Unsupported:
    start = text.find(part)
    if start < 0:
        return Unsupported(text=part, why=why)
    return Unsupported(text=part, why=why, start=start, end=start + len(part))


def _describe(report: CitationReport) -> dict[str, object]:
    return {
        "grounded": report.share_carried,
        "claims": [
            {
                "claim": each.claim,
                "passage_id": each.passage_id,
                "overlap": round(each.overlap, 4),
                "missing_numbers": list(each.missing_numbers),
                "is_carried": each.is_carried,
            }
            for each in report.claims
        ],
        "quotes": [
            {"quote": each.quote, "passage_id": each.passage_id or None, "verdict": each.verdict}
            for each in report.quotes
        ],
    }
