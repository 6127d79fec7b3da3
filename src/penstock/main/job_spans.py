"""The span of a job, below which the calls that it makes through the gateway hang."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

from penstock.base.clock import now_ns
from penstock.base.errors import PenstockError
from penstock.base.ids import new_span_id, new_trace_id
from penstock.jobs.context import JobContext
from penstock.jobs.errors import JobInterrupt
from penstock.jobs.worker import Handler
from penstock.spec.spans import Span

current_traceparent: ContextVar[str | None] = ContextVar("current_traceparent", default=None)
"""Of the job that this thread works on; None outside of one. Threads see it only where they are given the context."""
Record = Callable[[Span], None]


def kinds_of_knowledge(kinds: Iterable[str]) -> frozenset[str]:
    """Return the kinds of job that work on knowledge bases, which embed and ask models."""
    return frozenset(kind for kind in kinds if kind.startswith("knowledge."))


def with_spans(handlers: Mapping[str, Handler], kinds: frozenset[str], record: Record) -> dict[str, Handler]:
    """Return the handlers, those of the named kinds recording a span a run."""
    return {
        kind: partial(_run, handler, kind, record) if kind in kinds else handler
        for kind, handler in handlers.items()
    }


def _run(
    handler: Handler, kind: str, record: Record, ctx: JobContext, spec: dict[str, Any]
) -> dict[str, Any] | None:
    about = {
        "job.id": ctx.job_id,
        "job.kind": kind,
        "job.attempt": ctx.attempt,
        **{f"job.{name}": value for name, value in spec.items() if isinstance(value, str)},
    }
    with job_span(f"job {kind}", about, record):
        return handler(ctx, spec)


@contextmanager
def job_span(name: str, attributes: dict[str, Any], record: Record) -> Iterator[None]:
    """Record a span of what is done within; calls to the gateway that this thread makes are its children."""
    trace_id, span_id, start_ns = new_trace_id(), new_span_id(), now_ns()
    token = current_traceparent.set(f"00-{trace_id}-{span_id}-01")
    ended: dict[str, Any] = {"status": "ok"}
    try:
        yield
    except JobInterrupt as interrupt:  # stopped or handed on: no failure of the job's
        ended = {"status": "unset", "status_message": type(interrupt).__name__}
        raise
    except PenstockError as error:
        ended = {"status": "error", "status_message": error.message, "error_code": error.code}
        raise
    except BaseException as error:
        ended = {"status": "error", "status_message": f"{type(error).__name__}: {error}"[:500]}
        raise
    finally:
        current_traceparent.reset(token)
        record(
            Span(
                trace_id=trace_id,
                span_id=span_id,
                name=name,
                kind="job",
                start_ns=start_ns,
                end_ns=now_ns(),
                service="control",
                attributes=attributes,
                **ended,
            )
        )
