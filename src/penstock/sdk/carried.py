"""What is said once and holds for every span below: session, user, tags, metadata, prompt. Travels with OpenTelemetry's context."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from opentelemetry import context as otel
from opentelemetry.context import Context

_KEY = otel.create_key("penstock-carried")


class Carried(NamedTuple):
    """Attributes for spans, and metadata, which goes the way of payloads."""

    attributes: Mapping[str, Any]
    metadata: Mapping[str, Any]


NOTHING = Carried({}, {})


def read_carried(context: Context | None = None) -> Carried:
    """Return what holds in `context`, the current one unless told."""
    found = otel.get_value(_KEY, context)
    return found if isinstance(found, Carried) else NOTHING


@contextmanager
def attributes(
    *,
    session_id: str | None = None,
    user_id: str | None = None,
    tags: Sequence[str] = (),
    metadata: Mapping[str, Any] | None = None,
    prompt: str | None = None,
    agent: str | None = None,
) -> Iterator[None]:
    """Say once what holds for all spans that begin inside, those of instrumentations too.

    Inner values win over outer ones; tags and metadata add up. `prompt` is a name and version such as `triage@3`.
    """
    before = otel.get_current()
    outer = read_carried(before)
    given = {
        **name_attributes(session_id=session_id, user_id=user_id, prompt=prompt, agent=agent),
        **({"tag.tags": [*outer.attributes.get("tag.tags", ()), *map(str, tags)]} if tags else {}),
    }
    mine = Carried({**outer.attributes, **given}, {**outer.metadata, **(metadata or {})})
    otel.attach(otel.set_value(_KEY, mine, before))
    try:
        yield
    finally:
        # A token could be used in another context than its own, where generators are closed late: put back by hand.
        now = otel.get_current()
        if read_carried(now) is mine:
            otel.attach(before)


def name_attributes(
    *,
    session_id: str | None = None,
    user_id: str | None = None,
    prompt: str | None = None,
    agent: str | None = None,
) -> dict[str, Any]:
    """Return the span attributes of what is given."""
    found: dict[str, Any] = {}
    if session_id is not None:
        found["session.id"] = str(session_id)
    if user_id is not None:
        found["user.id"] = str(user_id)
    if agent is not None:
        found["gen_ai.agent.name"] = str(agent)
    if prompt is not None:
        found["gen_ai.prompt.name"] = str(prompt).partition("@")[0]
        found["penstock.prompt"] = str(prompt)
    return found
