"""Reads the reply of a chat completion into an `Output`. Pure. Unknown stays None."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from penstock.base.errors import PenstockError
from penstock.dialects.openai.usage import UsageObject, disjoint_usage
from penstock.evals.ports import GatewayReply
from penstock.spec.cases import Output, OutputError, Passage, TokenChance
from penstock.spec.usage import Usage

OK = 200
TRANSIENT = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
OVERLOADED = frozenset({429, 529})
_REFUSED = frozenset({"content_filter", "content_policy_violation", "refusal"})


def read_reply(reply: GatewayReply, *, case_id: str, repeat: int) -> Output:
    """Return the output that a gateway's reply is: an answer, a refusal, or an error with its code."""
    trace_id = reply.headers.get("x-penstock-trace-id")
    base: dict[str, Any] = {
        "case_id": case_id,
        "repeat": repeat,
        "trace_id": trace_id,
        "latency_ms": reply.latency_ms,
        "ttft_ms": reply.ttft_ms,
        "versions": _versions(reply.headers),
    }
    if reply.status != OK:
        return _error(reply, base)
    choice = _first(reply.body)
    if choice is None:
        error = OutputError(
            code="PS-4330", message="The reply holds no choice.", status=reply.status, is_transient=True
        )
        return Output(**base, status="error", error=error)
    raw = choice.get("message")
    message: Mapping[str, Any] = raw if isinstance(raw, Mapping) else {}
    finish = choice.get("finish_reason")
    text, refusal = _text(message.get("content")), _text(message.get("refusal"))
    is_refused = bool(refusal) or (finish in _REFUSED and not text)
    body: Mapping[str, Any] = reply.body
    citations = [
        each for each in _list(body.get("citations") or message.get("citations")) if isinstance(each, dict)
    ]
    return Output(
        **base,
        status="refused" if is_refused else "ok",
        text=text if text is not None else refusal,
        tool_calls=[each for each in _list(message.get("tool_calls")) if isinstance(each, dict)],
        passages=_passages(citations),
        citations=citations,
        logprobs=_logprobs(choice.get("logprobs")),
        finish_reason=finish if isinstance(finish, str) else None,
        usage=_usage(body.get("usage")),
        model=body.get("model") if isinstance(body.get("model"), str) else None,
    )


def failed_output(
    case_id: str, repeat: int, error: BaseException, *, is_transient: bool, latency_ms: float | None = None
) -> Output:
    """Return the output of a call that raised."""
    is_ours = isinstance(error, PenstockError)
    told = OutputError(
        code=error.code if isinstance(error, PenstockError) else type(error).__name__,
        message=whole_text(error.message if is_ours else f"{type(error).__name__}: {error}")[:4000],  # type: ignore[attr-defined]
        is_transient=is_transient,
    )
    return Output(case_id=case_id, repeat=repeat, status="error", error=told, latency_ms=latency_ms)


def skipped_output(case_id: str, repeat: int, reason: str) -> Output:
    """Return the output of what was not asked."""
    told = OutputError(code="skipped", message=reason, is_transient=True)
    return Output(case_id=case_id, repeat=repeat, status="skipped", error=told)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return how long the reply asks to wait, or None."""
    for name, scale in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            wait_s = float(headers[name]) / scale
        except (KeyError, ValueError):
            continue
        if 0 <= wait_s < 1e6:
            return wait_s
    return None


def _error(reply: GatewayReply, base: dict[str, Any]) -> Output:
    told = reply.body.get("error") if isinstance(reply.body, Mapping) else None
    told = told if isinstance(told, Mapping) else {}
    code = str(told.get("code") or told.get("type") or f"http_{reply.status}")
    message = str(told.get("message") or reply.text or f"The call failed with status {reply.status}.")
    is_refused = code in _REFUSED or told.get("type") in _REFUSED
    error = OutputError(
        code=code[:100],
        message=whole_text(message)[:4000],
        status=reply.status,
        is_transient=reply.status in TRANSIENT and not is_refused,
    )
    return Output(**base, status="refused" if is_refused else "error", error=error)


def _first(body: Any) -> Mapping[str, Any] | None:
    choices = body.get("choices") if isinstance(body, Mapping) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, Mapping) else None


def _text(content: Any) -> str | None:
    if isinstance(content, str):
        return whole_text(content)
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, Mapping)]
        known = [text for text in texts if isinstance(text, str)]
        return whole_text("".join(known)) if known else None
    return None


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _versions(headers: Mapping[str, str]) -> dict[str, str]:
    version = headers.get("x-penstock-version")
    if not version:
        return {}
    asset, _, stamp = version.partition("@")
    return {asset: stamp} if stamp else {"served": version}


def _passages(citations: Sequence[Mapping[str, Any]]) -> list[Passage]:
    """Citations as passages, until the trace tells everything that was retrieved."""
    found = []
    for each in citations:
        text = each.get("text") or each.get("quote")
        if isinstance(text, str):
            passage_id, document = each.get("passage_id") or each.get("id"), each.get("document")
            found.append(
                Passage(
                    text=text,
                    id=str(passage_id) if passage_id is not None else None,
                    document=str(document) if document is not None else None,
                )
            )
    return found


def _logprobs(value: Any) -> list[TokenChance]:
    content = value.get("content") if isinstance(value, Mapping) else None
    found = []
    for each in _list(content):
        if not isinstance(each, Mapping) or not isinstance(each.get("logprob"), int | float):
            return []
        rivals = {
            str(rival.get("token")): float(rival["logprob"])
            for rival in _list(each.get("top_logprobs"))
            if isinstance(rival, Mapping) and isinstance(rival.get("logprob"), int | float)
        }
        found.append(TokenChance(token=str(each.get("token")), logprob=float(each["logprob"]), rivals=rivals))
    return found


def _usage(value: Any) -> Usage | None:
    if not isinstance(value, Mapping):
        return None
    try:
        return disjoint_usage(msgspec.convert(value, UsageObject, strict=False))
    except (msgspec.ValidationError, ValueError):
        return None


def whole_text(text: str) -> str:
    """Return `text` without lone surrogates, which no JSON can hold; everything else stays as it is."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
