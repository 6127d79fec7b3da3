"""`rewrite_query` of a search: the question in words that documents use, by the rewrite step of an app over the same base."""

from collections.abc import Sequence

from penstock.apps.errors import CallerOverLimit, StepFailed
from penstock.apps.model_client import ModelClient
from penstock.apps.requests import MAX_QUESTION_CHARS
from penstock.apps.shelf import Routes
from penstock.apps.step_prompts import ask_search_words, read_rewrite
from penstock.apps.steps import try_models
from penstock.apps.tracing import OpenSpan, TraceContext, Tracer
from penstock.apps.types import AppDeclaration
from penstock.base.errors import PenstockError


class QueryRewriting:
    """Rewrites queries for any number of searches at once on one event loop."""

    def __init__(self, model_client: ModelClient, tracer: Tracer) -> None:
        self._model_client = model_client
        self._tracer = tracer

    async def rewrite(self, app: AppDeclaration, query: str, context: TraceContext) -> tuple[str, str | None]:
        """Return the query to search for, and what is to be noted where it is the one that was asked.

        Raises what the step does where the app wants its failures to end a run, and `CallerOverLimit`.
        """
        settings = app.rewrite
        messages = ask_search_words(query)

        async def ask(model: str, span: OpenSpan) -> str:
            reply = await self._model_client.call(
                {"model": model, "messages": messages, "temperature": 0.0, "max_tokens": settings.max_tokens},
                headers=span.headers,
                timeout_s=settings.timeout_s,
                on_text=None,
                step="rewrite",
            )
            span.output = {"reply": reply.text}
            found = read_rewrite(reply.text, max_chars=MAX_QUESTION_CHARS)
            if found is None:
                raise StepFailed(
                    f"step 'rewrite': the reply of {model!r} says nothing that can be used.", step="rewrite"
                )
            return found

        try:
            with self._tracer.span("rewrite", "chain", context) as span:
                span.input = {"messages": messages}
                span.attributes["app.name"] = app.name
                return await try_models(app.model, settings, lambda model: ask(model, span)), None
        except PenstockError as error:
            if settings.on_failure == "fail" or isinstance(error, CallerOverLimit):
                raise
            return query, f"the query was searched as it is: {error.message}"


def choose_app(apps: Sequence[AppDeclaration], base: str, routes: Routes) -> AppDeclaration | None:
    """Return the app whose rewrite step serves searches of a base: one that the caller's key may ask, the base's namesake
    first, then by name."""
    able = [
        app for app in apps if app.knowledge == base and "rewrite" in app.steps and routes.may_call(app.name)
    ]
    return min(able, key=lambda app: (app.name != base, app.name), default=None)
