"""A recorded request as the playground's form: its system message, the talk so far, and what was asked last."""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from penstock.traces.comparison import read_reference
from penstock.traces.conversation import Message, plain_text, read_exchange
from penstock.traces.service import TraceService

_SPOKEN = frozenset({"text"})


@dataclass(frozen=True, kw_only=True)
class TakenRequest:
    """What fills the form; empty where the request says nothing."""

    model: str | None = None
    system: str = ""
    earlier: str = ""
    """JSON list of `{role, content}`."""
    user: str = ""
    temperature: str = ""
    max_tokens: str = ""
    origin: str | None = None
    n_left_out: int = 0


def take_request(traces: TraceService, reference: str) -> TakenRequest:
    """Return the request of the span that `TRACE/SPAN` names; raise `WrongReference` or `NotFound`."""
    named = read_reference(reference)
    span_id = named.span_id or traces.read_outline(named.trace_id).id_of(0)
    span = traces.get_span(named.trace_id, span_id)
    sent = traces.get_payload(named.trace_id, span_id).input
    exchange = read_exchange(sent, None)
    messages = exchange.asked if exchange else []
    talk = [message for message in messages if not message.is_standing and _text(message)]
    last = talk.pop() if talk and talk[-1].role == "user" else None
    settings = sent if isinstance(sent, Mapping) else {}
    n_other = sum(part.kind not in _SPOKEN for message in messages for part in message.parts)
    return TakenRequest(
        model=span.route or span.model,
        system="\n\n".join(_text(message) for message in messages if message.is_standing),
        earlier=msgspec.json.encode(
            [
                {"role": "user" if each.role == "user" else "assistant", "content": _text(each)}
                for each in talk
            ]
        ).decode()
        if talk
        else "",
        user=_text(last) if last else "",
        temperature=_number(settings.get("temperature")),
        max_tokens=_number(settings.get("max_tokens", settings.get("max_completion_tokens"))),
        origin=f"{named.trace_id}?span={span_id}",
        n_left_out=n_other + bool(exchange and exchange.tools),
    )


def _text(message: Message) -> str:
    return plain_text(
        msgspec.structs.replace(message, parts=[each for each in message.parts if each.kind in _SPOKEN])
    )


def _number(value: object) -> str:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else ""
