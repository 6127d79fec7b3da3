"""Targets: what a case becomes when it is asked of a model, of an HTTP endpoint, of a function, or of stored outputs.

HTTP endpoints and functions are for runs in the process of the person who asked; nothing here is reached by control for them.
"""

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

import msgspec

from penstock.base.digest import digest_json
from penstock.base.errors import InvalidInput
from penstock.evals.errors import EvaluationInvalid
from penstock.evals.ports import PinnedTarget
from penstock.evals.running.asking import Asked, Asker
from penstock.evals.running.own_thread import call_in_thread
from penstock.evals.running.pace import Pace
from penstock.evals.running.replies import failed_output, whole_text
from penstock.spec.cases import Case, Output, OutputError, Passage
from penstock.spec.usage import Usage

_PROMPT = "prompt:"


class RunTarget(Protocol):
    """What a run asks."""

    def request_key(self, case: Case, repeat: int) -> str | None:
        """Return what is equal for equal questions to equal targets of the same repeat; None: never take an answer again."""
        ...

    async def answer(self, case: Case, repeat: int) -> Asked:
        """Return the answer; never raises for what the target does."""
        ...

    async def settle(self, asked: Asked) -> Output:
        """Return the output with everything that became known after the answer."""
        ...


@dataclass(kw_only=True)
class ModelTarget:
    """A model name of the gateway: a route, a prompt, an app."""

    pinned: PinnedTarget
    asker: Asker

    def body(self, case: Case) -> dict[str, Any]:
        """Return the request that a case becomes."""
        return request_body(self.pinned, case)

    def request_key(self, case: Case, repeat: int) -> str | None:
        """Return the key of kept outputs; see `RunTarget`."""
        asked = {"target": self.pinned.stamp, "body": self.body(case), "repeat": repeat}
        return digest_json(asked).removeprefix("sha256:")

    async def answer(self, case: Case, repeat: int) -> Asked:
        """Ask the gateway."""
        try:
            body = self.body(case)
        except InvalidInput as error:
            return Asked(output=failed_output(case.id, repeat, error, is_transient=False))
        return await self.asker.call(body, kind="target", case_id=case.id, repeat=repeat)

    async def settle(self, asked: Asked) -> Output:
        """Wait for the call's trace."""
        return await self.asker.settle(asked)


def request_body(pinned: PinnedTarget, case: Case) -> dict[str, Any]:
    """Return the chat request of a case. Raises `EvaluationInvalid` when the case holds nothing to ask."""
    spec = pinned.spec
    body: dict[str, Any] = dict(spec.parameters)
    if spec.prompt is not None:
        prompt = spec.prompt if spec.prompt.startswith(_PROMPT) else f"{_PROMPT}{spec.prompt}"
        body["model"], body["prompt_model"] = prompt, spec.model
    else:
        body["model"] = spec.model
    is_prompt = str(body["model"]).startswith(_PROMPT)
    if is_prompt:
        takes = pinned.takes_variables
        body["prompt_variables"] = {
            name: value for name, value in case.inputs.items() if takes is None or name in takes
        }
        body["messages"] = case.messages
        return body
    body["messages"] = case.messages or [{"role": "user", "content": _single_text(case)}]
    return body


def _single_text(case: Case) -> str:
    value = case.inputs.get("input")
    if value is None and len(case.inputs) == 1:
        value = next(iter(case.inputs.values()))
    if value is None:
        named = ", ".join(case.inputs) or "nothing"
        raise EvaluationInvalid(
            f"Case {case.id!r} has neither messages nor a text `input` (it has {named}).",
            hint="Use a prompt as the target, whose template takes these variables, or map a column to `input`.",
            case=case.id,
        )
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@dataclass(kw_only=True)
class FunctionTarget:
    """A Python function, sync or async, that is called with the case (or its input) in this process."""

    function: Callable[..., Any]
    stamp: str | None
    """Of its code, if that is known; without one no answer is taken again."""
    pace: Pace
    clock: Callable[[], float]
    timeout_s: float

    def request_key(self, case: Case, repeat: int) -> str | None:
        """User code may depend on anything: no answer is taken again unless it says what version it is."""
        if self.stamp is None:
            return None
        asked = {"target": self.stamp, "case": msgspec.to_builtins(case), "repeat": repeat}
        return digest_json(asked).removeprefix("sha256:")

    async def answer(self, case: Case, repeat: int) -> Asked:
        """Call the function, within the time of a case."""
        async with self.pace.slot():
            began = self.clock()
            try:
                value = await asyncio.wait_for(_invoke(self.function, case), self.timeout_s)
                output = read_result(value, case_id=case.id, repeat=repeat)
            except TimeoutError:
                late = TimeoutError(f"The function did not return within {self.timeout_s:g} s.")
                output = failed_output(case.id, repeat, late, is_transient=True)
            except (
                Exception
            ) as error:  # user code may raise anything: that is an outcome of the case, not of the run
                output = failed_output(case.id, repeat, error, is_transient=False)
            latency_ms = (self.clock() - began) * 1000
        if output.latency_ms is None:
            output = msgspec.structs.replace(output, latency_ms=latency_ms)
        return Asked(output=output)

    async def settle(self, asked: Asked) -> Output:
        """Nothing more becomes known."""
        return asked.output


async def _invoke(function: Callable[..., Any], case: Case) -> Any:
    argument: Any = case if _wants_case(function) else case.inputs.get("input", case.inputs or case.messages)
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - an object whose __call__ is async
    ):
        return await function(argument)
    value = await call_in_thread(function, argument)
    return await value if inspect.isawaitable(value) else value


def _wants_case(function: Callable[..., Any]) -> bool:
    """Whether the function takes the whole case: its parameter is called `case` or annotated so; else it gets the input."""
    try:
        first = next(iter(inspect.signature(function).parameters.values()), None)
    except (TypeError, ValueError):
        return False
    if first is None:
        return False
    return first.name == "case" or first.annotation is Case or first.annotation == "Case"


def read_result(value: Any, *, case_id: str, repeat: int) -> Output:
    """Return the output that a function's result is: an `Output`, a text, an object with its fields, or any JSON."""
    if isinstance(value, Output):
        return msgspec.structs.replace(value, case_id=case_id, repeat=repeat)
    if isinstance(value, str):
        return Output(case_id=case_id, repeat=repeat, text=whole_text(value))
    if value is None:
        error = OutputError(code="empty", message="The function returned nothing.")
        return Output(case_id=case_id, repeat=repeat, status="error", error=error)
    if isinstance(value, Mapping) and ("text" in value or "answer" in value):
        text = value.get("text", value.get("answer"))
        passages = [
            Passage(text=each)
            if isinstance(each, str)
            else msgspec.convert(dict(each), Passage, strict=False)
            for each in value.get("passages") or value.get("contexts") or []
        ]
        cost = value.get("cost_usd")
        usage = value.get("usage")
        return Output(
            case_id=case_id,
            repeat=repeat,
            text=None if text is None else whole_text(str(text)),
            data={key: item for key, item in value.items() if key not in {"passages", "contexts"}},
            passages=passages,
            tool_calls=list(value.get("tool_calls") or []),
            cost_usd=None if cost is None else Decimal(str(cost)),
            usage=None if usage is None else msgspec.convert(dict(usage), Usage, strict=False),
        )
    if isinstance(value, bool | int | float):
        return Output(case_id=case_id, repeat=repeat, text=str(value), data=value)
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)  # TypeError tells the person what it was
    return Output(case_id=case_id, repeat=repeat, text=whole_text(text), data=json.loads(text))


@dataclass(kw_only=True)
class StoredTarget:
    """Outputs that were made before, by this or any other program."""

    find: Callable[[str, int], Awaitable[Output | None]]
    may_lack: bool = False
    """Cases without an output were never asked, as in an evaluation that was stopped: that is no error of the target."""

    def request_key(self, case: Case, repeat: int) -> str | None:
        """What is stored is taken from where it is."""
        del case, repeat
        return None

    async def answer(self, case: Case, repeat: int) -> Asked:
        """Return the stored output, or an error that says that there is none; see `may_lack`."""
        found = await self.find(case.id, repeat)
        if self.may_lack and (found is None or found.status == "skipped"):
            skipped = Output(case_id=case.id, repeat=repeat, status="skipped")
            return Asked(output=skipped, is_absent=True)
        if found is None:
            error = OutputError(code="no_output", message="The stored outputs hold none for this case.")
            return Asked(output=Output(case_id=case.id, repeat=repeat, status="error", error=error))
        return Asked(output=as_kept(found))

    async def settle(self, asked: Asked) -> Output:
        """Nothing more becomes known."""
        return asked.output


def as_kept(output: Output, *, case_id: str | None = None) -> Output:
    """Return an output of before as it stands in another evaluation: it costs nothing again, and says what it did cost."""
    original = output.original_cost_usd if output.is_cached else output.cost_usd
    return msgspec.structs.replace(
        output,
        case_id=case_id or output.case_id,
        is_cached=True,
        cost_usd=Decimal(0),
        original_cost_usd=original,
    )


def read_outputs(lines: Iterable[str], *, place: str) -> dict[tuple[str, int], Output]:
    """Return the outputs of a file, one JSON object a line: fields of `Output`, or `id` and `output`.

    Raises `InvalidInput` that names the line.
    """
    found: dict[tuple[str, int], Output] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
            if not isinstance(value, dict):
                raise TypeError("a line must be a JSON object")
            case_id = value.pop("id", value.get("case_id"))
            if "output" in value:
                text = value.pop("output")
                value["text" if isinstance(text, str) else "data"] = text
                if not isinstance(text, str):
                    value["text"] = json.dumps(text, ensure_ascii=False)
            if case_id is None:
                raise ValueError("it names no case: `case_id` or `id` is missing")
            value["case_id"] = str(case_id)
            output = msgspec.convert(value, Output, strict=False)
        except (ValueError, TypeError, msgspec.ValidationError) as error:
            raise InvalidInput(f"{place}:{number} is no output: {error}.") from error
        found[output.case_id, output.repeat] = output
    return found
