"""An HTTP endpoint as a target: a request made from a template over the case, a reply read by a pointer. Local runs only.

    {url = "https://bot.example/ask", method = "POST", headers = {authorization = "Bearer ${BOT_KEY}"},
     body = {question = "{{input}}"}, reply = "/answer/text"}

`{{name}}` is an input of the case, or `id`, `messages`, `inputs`; a text that is nothing else keeps the value's type. `${NAME}` in
headers is a variable of the environment, so that keys stand in no file.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from penstock.base.json_text import clean_text
from penstock.evals.errors import EvaluationInvalid
from penstock.evals.running.asking import Asked
from penstock.evals.running.pace import Pace
from penstock.evals.running.replies import OVERLOADED, TRANSIENT, failed_output, retry_after_s
from penstock.evals.running.targets import read_result
from penstock.spec.cases import Case, Output, OutputError

_WHOLE = re.compile(r"\{\{\s*([\w.]+)\s*\}\}")
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_KNOWN = frozenset({"url", "method", "headers", "body", "reply"})
MAX_REPLY_BYTES = 16 * 1024 * 1024


@dataclass(kw_only=True)
class HttpTarget:
    """Asks one endpoint. For one event loop."""

    spec: Mapping[str, Any]
    environ: Mapping[str, str]
    pace: Pace
    clock: Callable[[], float]
    timeout_s: float
    session: aiohttp.ClientSession | None = None

    def __post_init__(self) -> None:
        unknown = sorted(set(self.spec) - _KNOWN)
        if unknown or not isinstance(self.spec.get("url"), str):
            raise EvaluationInvalid(
                f"target.http has {', '.join(unknown)}." if unknown else "target.http needs a url.",
                hint=f"It takes {', '.join(sorted(_KNOWN))}.",
                where="target.http",
            )

    def request_key(self, case: Case, repeat: int) -> str | None:
        """Nobody knows what stands behind an endpoint: no answer is taken again."""
        del case, repeat
        return None

    async def answer(self, case: Case, repeat: int) -> Asked:
        """Send the request and read the reply."""
        if self.session is None:
            self.session = aiohttp.ClientSession(trust_env=False)
        async with self.pace.slot() as began:
            try:
                output = await self._send(case, repeat, began)
            except TimeoutError as error:
                output = failed_output(case.id, repeat, error, is_transient=True)
            except aiohttp.ClientError as error:
                output = failed_output(case.id, repeat, error, is_transient=True)
            except (
                Exception
            ) as error:  # whatever an endpoint replies is an outcome of the case, not of the run
                output = failed_output(case.id, repeat, error, is_transient=False)
            latency_ms = (self.clock() - began) * 1000
        return Asked(output=msgspec.structs.replace(output, latency_ms=latency_ms))

    async def settle(self, asked: Asked) -> Output:
        """Nothing more becomes known."""
        return asked.output

    async def close(self) -> None:
        """Close connections."""
        if self.session is not None:
            await self.session.close()
            self.session = None

    async def _send(self, case: Case, repeat: int, began: float) -> Output:
        assert self.session is not None
        values = {**case.inputs, "id": case.id, "messages": case.messages, "inputs": case.inputs}
        body = self.spec.get("body", {"input": "{{input}}"})
        headers = {name: self._secret(value) for name, value in self.spec.get("headers", {}).items()}
        async with self.session.request(
            str(self.spec.get("method", "POST")),
            str(fill(self.spec["url"], values)),
            json=fill(body, values) if body is not None else None,
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=self.timeout_s),
        ) as response:
            data = await _read_whole(response)
            status, told = response.status, {name.lower(): value for name, value in response.headers.items()}
            is_json = "json" in response.content_type
        if status in OVERLOADED:
            self.pace.slow_down(began, retry_after_s(told))
        if status >= 400:
            message = clean_text(data[:500].decode("utf-8", "replace"))
            error = OutputError(
                code=f"http_{status}", message=message, status=status, is_transient=status in TRANSIENT
            )
            return Output(case_id=case.id, repeat=repeat, status="error", error=error)
        self.pace.succeeded()
        return _read(data, self.spec.get("reply"), case.id, repeat, is_json=is_json)

    def _secret(self, value: Any) -> str:
        def variable(match: re.Match[str]) -> str:
            found = self.environ.get(match.group(1))
            if found is None:
                raise EvaluationInvalid(
                    f"The variable {match.group(1)} is not set.", where="target.http.headers"
                )
            return found

        return _VARIABLE.sub(variable, str(value))


async def _read_whole(response: aiohttp.ClientResponse) -> bytes:
    """Return the body to its end; raise `EvaluationInvalid` when it is too large."""
    data = bytearray()
    async for piece in response.content.iter_any():
        data += piece
        if len(data) > MAX_REPLY_BYTES:
            raise EvaluationInvalid(f"The reply is over {MAX_REPLY_BYTES // 2**20} MiB.", where="target.http")
    return bytes(data)


def fill(template: Any, values: Mapping[str, Any]) -> Any:
    """Return the template with every `{{name}}` filled in; raise `EvaluationInvalid` for a name that the case lacks."""
    if isinstance(template, Mapping):
        return {name: fill(value, values) for name, value in template.items()}
    if isinstance(template, list):
        return [fill(value, values) for value in template]
    if not isinstance(template, str):
        return template
    whole = _WHOLE.fullmatch(template.strip())
    if whole is not None:
        return _value(whole.group(1), values)

    def text(match: re.Match[str]) -> str:
        value = _value(match.group(1), values)
        return value if isinstance(value, str) else msgspec.json.encode(value).decode()

    return _WHOLE.sub(text, template)


def _value(name: str, values: Mapping[str, Any]) -> Any:
    at: Any = values
    for part in name.split("."):
        if not isinstance(at, Mapping) or part not in at:
            raise EvaluationInvalid(
                f"The case has no {name!r}; it has {', '.join(values)}.", where="target.http"
            )
        at = at[part]
    return at


def _read(data: bytes, pointer: Any, case_id: str, repeat: int, *, is_json: bool) -> Output:
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError):
        if is_json:
            error = OutputError(code="PS-4330", message="The reply says that it is JSON and is none.")
            return Output(case_id=case_id, repeat=repeat, status="error", error=error)
        value = None if pointer else data.decode("utf-8", "replace")
    if pointer:
        for part in str(pointer).strip("/").split("/"):
            key = part.replace("~1", "/").replace("~0", "~")
            if isinstance(value, list) and key.isdigit() and int(key) < len(value):
                value = value[int(key)]
            elif isinstance(value, Mapping) and key in value:
                value = value[key]
            else:
                error = OutputError(code="PS-4330", message=f"The reply has nothing at {pointer!r}.")
                return Output(case_id=case_id, repeat=repeat, status="error", error=error)
    return read_result(value, case_id=case_id, repeat=repeat)
