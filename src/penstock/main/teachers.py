"""Models of the gateway as teachers: `tuning.compress.distilling.Teacher` over HTTP, with the installation's own key."""

import http.client
import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Protocol
from urllib.parse import urlsplit

from penstock.tuning.compress.distilling import TeacherReply

TIMEOUT_S = 300.0
MAX_REPLY_BYTES = 8 * 1024 * 1024
_TRANSIENT = frozenset({408, 409, 425, 429, 500, 502, 503, 504})


class RoutePricing(Protocol):
    """Knows what calls of a route cost now."""

    def estimate_usd(self, model: str, *, input_tokens: int, output_tokens: int) -> Decimal | None:
        """Return the price of so many tokens, or None."""
        ...


class GatewayTeacher:
    """Asks any model that the gateway answers. Safe for threads."""

    def __init__(
        self,
        find_url: Callable[[], str],
        read_key: Callable[[], str],
        prices: RoutePricing,
        *,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """`find_url` raises `NotRunning` when there is no gateway to ask."""
        self._find_url = find_url
        self._read_key = read_key
        self._prices = prices
        self._timeout_s = timeout_s

    def ask(
        self,
        model: str,
        messages: Sequence[Mapping[str, Any]],
        *,
        parameters: Mapping[str, Any],
        session: str,
    ) -> TeacherReply:
        """Return the answer; see the port."""
        url = urlsplit(self._find_url())
        body = json.dumps({"model": model, "messages": list(messages), **parameters}).encode()
        headers = {
            "authorization": f"Bearer {self._read_key()}",
            "content-type": "application/json",
            "x-penstock-session": session,
        }
        connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=self._timeout_s)
        try:
            connection.request(
                "POST", f"{url.path.rstrip('/')}/v1/chat/completions", body=body, headers=headers
            )
            response = connection.getresponse()
            data = response.read(MAX_REPLY_BYTES)
            told = {name.lower(): value for name, value in response.getheaders()}
            status = response.status
        except TimeoutError:
            return TeacherReply(
                status="timeout", reason=f"no answer within {self._timeout_s:g} s", is_transient=True
            )
        except (OSError, http.client.HTTPException) as error:
            return TeacherReply(
                status="error", reason=f"the gateway could not be reached: {error}", is_transient=True
            )
        finally:
            connection.close()
        return self._priced(model, read_teacher_reply(status, data, told))

    def price(self, model: str, *, input_tokens: int, output_tokens: int) -> Decimal | None:
        """Return what such a call costs now."""
        return self._prices.estimate_usd(model, input_tokens=input_tokens, output_tokens=output_tokens)

    def _priced(self, model: str, reply: TeacherReply) -> TeacherReply:
        if reply.input_tokens is None or reply.output_tokens is None:
            return reply
        cost = self.price(model, input_tokens=reply.input_tokens, output_tokens=reply.output_tokens)
        return reply if cost is None else _with_cost(reply, cost)


def _with_cost(reply: TeacherReply, cost: Decimal) -> TeacherReply:
    fields = {name: getattr(reply, name) for name in reply.__struct_fields__}
    return TeacherReply(**{**fields, "cost_usd": str(cost)})


def read_teacher_reply(status: int, data: bytes, headers: Mapping[str, str]) -> TeacherReply:
    """Return what a reply of the gateway to a chat call says."""
    trace = headers.get("x-penstock-trace-id")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    if status != http.client.OK or not isinstance(value, dict):
        told = value.get("error") if isinstance(value, dict) else None
        message = told.get("message") if isinstance(told, dict) else told
        return TeacherReply(
            status="timeout" if status in {408, 504} else "error",
            reason=f"status {status}: {message}"[:500],
            trace_id=trace,
            is_transient=status in _TRANSIENT,
        )
    try:
        choice = value["choices"][0]
        message, finish = choice["message"], choice.get("finish_reason")
        text, refusal = message.get("content"), message.get("refusal")
    except (KeyError, IndexError, TypeError, AttributeError):
        return TeacherReply(status="error", reason="no chat reply", trace_id=trace)
    is_refused = bool(refusal) or finish == "content_filter"
    usage = value.get("usage")
    return TeacherReply(
        status="refused" if is_refused else "ok",
        text=text if isinstance(text, str) and not is_refused else "",
        finish=finish if isinstance(finish, str) else None,
        reason=str(refusal or "the provider's filter stopped it")[:500] if is_refused else "",
        input_tokens=_count(usage, "prompt_tokens"),
        output_tokens=_count(usage, "completion_tokens"),
        version=headers.get("x-penstock-version"),
        trace_id=trace,
    )


def _count(usage: Any, name: str) -> int | None:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
