"""One chat call of the gateway and what came of it, for rooms that ask models in the background: teachers, proposals.

With the installation's own key, so that such calls are priced, limited and recorded like anybody's.
"""

import http.client
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

TIMEOUT_S = 300.0
MAX_REPLY_BYTES = 8 * 1024 * 1024
_TRANSIENT = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_TOO_LATE = frozenset({http.client.REQUEST_TIMEOUT, http.client.GATEWAY_TIMEOUT})


class RoutePricing(Protocol):
    """Knows what calls of a route cost now."""

    def estimate_usd(self, model: str, *, input_tokens: int, output_tokens: int) -> Decimal | None:
        """Return the price of so many tokens, or None."""
        ...


@dataclass(frozen=True, kw_only=True)
class ChatAnswer:
    """What came of a call. Unknown is None."""

    status: Literal["ok", "refused", "timeout", "error"]
    text: str = ""
    finish: str | None = None
    reason: str = ""
    """Why there is no text."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    version: str | None = None
    """Who answered, as the gateway says it."""
    trace_id: str | None = None
    is_transient: bool = False
    """Whether asking again may help."""


class ChatCalls:
    """Asks any model that the gateway answers. Safe for threads."""

    def __init__(
        self, find_url: Callable[[], str], read_key: Callable[[], str], *, timeout_s: float = TIMEOUT_S
    ) -> None:
        """`find_url` raises `NotRunning` when there is no gateway to ask."""
        self._find_url = find_url
        self._read_key = read_key
        self._timeout_s = timeout_s

    def ask(
        self,
        model: str,
        messages: Sequence[Mapping[str, Any]],
        *,
        parameters: Mapping[str, Any],
        session: str,
        headers: Mapping[str, str] | None = None,
    ) -> ChatAnswer:
        """Return the answer; never raises for what the model or the gateway does."""
        body = json.dumps({"model": model, "messages": list(messages), **parameters}).encode()
        sent = {
            "authorization": f"Bearer {self._read_key()}",
            "content-type": "application/json",
            "x-penstock-session": session,
            **(headers or {}),
        }
        url = urlsplit(self._find_url())
        connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=self._timeout_s)
        try:
            connection.request("POST", f"{url.path.rstrip('/')}/v1/chat/completions", body=body, headers=sent)
            response = connection.getresponse()
            data = response.read(MAX_REPLY_BYTES)
            told = {name.lower(): value for name, value in response.getheaders()}
            status = response.status
        except TimeoutError:
            return ChatAnswer(
                status="timeout", reason=f"no answer within {self._timeout_s:g} s", is_transient=True
            )
        except (OSError, http.client.HTTPException) as error:
            return ChatAnswer(
                status="error", reason=f"the gateway could not be reached: {error}", is_transient=True
            )
        finally:
            connection.close()
        return read_chat_answer(status, data, told)


def read_chat_answer(status: int, data: bytes, headers: Mapping[str, str]) -> ChatAnswer:
    """Return what a reply of the gateway to a chat call says; names of `headers` in lower case."""
    trace = headers.get("x-penstock-trace-id")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    if status != http.client.OK or not isinstance(value, dict):
        told = value.get("error") if isinstance(value, dict) else None
        message = told.get("message") if isinstance(told, dict) else told or "no chat reply"
        return ChatAnswer(
            status="timeout" if status in _TOO_LATE else "error",
            reason=f"status {status}: {message}"[:500],
            trace_id=trace,
            is_transient=status in _TRANSIENT,
        )
    try:
        choice = value["choices"][0]
        said, finish = choice["message"], choice.get("finish_reason")
        text, refusal = said.get("content"), said.get("refusal")
    except (KeyError, IndexError, TypeError, AttributeError):
        return ChatAnswer(status="error", reason="no chat reply", trace_id=trace)
    is_refused = bool(refusal) or finish == "content_filter"
    usage = value.get("usage")
    return ChatAnswer(
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
