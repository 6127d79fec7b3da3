"""Runs an app: its steps in order, each with its own span and time limit. A failing step ends the run with an error that
names it, or is left out where it may be, and leaves a trace that shows it either way.

Knows neither HTTP servers nor where knowledge lies.
"""

from collections.abc import Callable

from penstock.apps.answering import Answering
from penstock.apps.checking import Checked, Checking
from penstock.apps.choosing import Choosing
from penstock.apps.citations import cite
from penstock.apps.model_client import ModelClient
from penstock.apps.replies import wire_citations, wire_outcome
from penstock.apps.retrieving import Retrieving
from penstock.apps.run_state import Run, Shown
from penstock.apps.searching import Searching, version_of
from penstock.apps.steps import Steps
from penstock.apps.tracing import TraceContext, Tracer
from penstock.apps.types import (
    AppDeclaration,
    AppReply,
    ChatRequest,
    Found,
    OnText,
    Outcome,
    Reason,
    Unsupported,
)
from penstock.spec.messages import Citation


class AppRunner:
    """Runs any number of apps at once on one event loop; searches run on `executor`'s threads."""

    def __init__(
        self,
        *,
        searching: Searching,
        model_client: ModelClient,
        tracer: Tracer,
        choosing: Choosing,
        checking: Checking,
        steps: Steps,
        find_version: Callable[[str], str | None],
    ) -> None:
        """`find_version` returns the registry's name for the version of an app that a request names, if there is one."""
        self._find_version = find_version
        self._retrieving = Retrieving(searching)
        self._answering = Answering(model_client, tracer)
        self._steps = steps
        self._choosing = choosing
        self._checking = checking
        self._tracer = tracer

    async def run(
        self,
        app: AppDeclaration,
        request: ChatRequest,
        context: TraceContext,
        *,
        on_text: OnText | None = None,
        on_found: Callable[[Found], None] = lambda _found: None,
    ) -> AppReply:
        """Return the app's answer; with `on_text`, pieces of its text are passed on as they come.

        `on_found` is told what was searched, before any text.

        Raises `PenstockError` that names the failing step.
        """
        with self._tracer.span(
            f"app {app.name}", "app", context, route=request.model, streamed=on_text is not None
        ) as span:
            span.input = {"messages": request.messages, **request.overrides}
            span.versions[f"app:{app.name}"] = self._find_version(request.model) or app.version
            is_held = "check" in app.steps and app.check.then == "abstain"
            shown = Shown(on_text, span, self._tracer, is_held=is_held)
            run = Run(app=app, request=request, span=span, shown=shown, question=request.question)
            run.begun_s = run.monotonic()
            reply = await self._follow(run, on_found)
            await shown.whole(reply.text)
            span.output = {
                "role": "assistant",
                "content": reply.text,
                "citations": wire_citations(reply.citations),
                "outcome": wire_outcome(reply.outcome),
            }
            span.attributes["app.n_citations"] = len(reply.citations)
            span.attributes["app.outcome"] = reply.outcome.reason or reply.outcome.state
            return reply

    async def _follow(self, run: Run, on_found: Callable[[Found], None]) -> AppReply:
        app, span = run.app, run.span
        if "rewrite" in app.steps:
            run.question = await self._steps.rewrite(run)
        wordings = await self._steps.expand(run) if "expand" in app.steps else []
        gathered = await self._retrieving.retrieve(run, wordings)
        on_found(gathered.found)
        span.versions[f"knowledge:{app.knowledge}"] = version_of(app.knowledge, gathered.found)
        sources, reason = await self._choosing.choose(run, gathered.hits)
        span.attributes["app.n_sources"] = len(sources)
        if not sources and app.when_nothing_found == "abstain":
            return _abstain(run, gathered.found, reason, app.nothing_found_text)
        answer = await self._answering.answer(run, sources)
        span.attributes["app.is_unknown"] = answer.is_unknown
        finish = answer.reply.finish_reason
        if answer.is_unknown:
            return _abstain(run, gathered.found, "not-known", answer.text, finish_reason=finish)
        checked = Checked(grounded=None)
        if "check" in app.steps and sources:
            checked = await self._checking.check(run, answer.reply.text, answer.text, sources)
            if checked.is_below(app.check.min_grounded):
                if app.check.then == "abstain":
                    text = app.unknown_text
                    return _abstain(run, gathered.found, "not-grounded", text, grounded=checked.grounded)
                run.note(_complain(checked))
        citations = cite(answer.reply.text, answer.text, sources, with_marks=app.citations == "inline")
        outcome = _outcome(
            run,
            gathered.found,
            grounded=checked.grounded,
            unsupported=checked.unsupported,
            from_documents=bool(sources),
        )
        return _reply(run, answer.text, outcome, citations=citations, finish_reason=finish)


def _complain(checked: Checked) -> str:
    if checked.has_false_quote:
        return "the answer quotes what stands in none of the passages that it cites"
    return f"only {checked.grounded or 0.0:.0%} of the answer's sentences are borne out by the passages"


def _abstain(
    run: Run,
    found: Found,
    reason: Reason,
    text: str,
    *,
    grounded: float | None = None,
    finish_reason: str = "stop",
) -> AppReply:
    outcome = _outcome(run, found, reason=reason, grounded=grounded)
    return _reply(run, text, outcome, finish_reason=finish_reason)


def _outcome(
    run: Run,
    found: Found,
    *,
    reason: Reason | None = None,
    grounded: float | None = None,
    unsupported: tuple[Unsupported, ...] = (),
    from_documents: bool = True,
) -> Outcome:
    return Outcome(
        state="answered" if reason is None else "abstained",
        reason=reason,
        from_documents=from_documents,
        question=run.question if run.question != run.request.question else None,
        grounded=None if grounded is None else round(grounded, 4),
        unsupported=unsupported,
        notes=tuple(run.notes),
        knowledge=found.version or found.generation,
    )


def _reply(
    run: Run,
    text: str,
    outcome: Outcome,
    *,
    citations: tuple[Citation, ...] = (),
    finish_reason: str = "stop",
) -> AppReply:
    return AppReply(
        text=text,
        citations=citations,
        outcome=outcome,
        usage=run.usage(),
        finish_reason=finish_reason,
        trace_id=run.span.context.trace_id,
    )
