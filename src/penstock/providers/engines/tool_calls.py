"""Calls of tools in what a model writes: found while it is written, and forced by a grammar where one is asked for.

Models write calls as their template taught them. Two forms are known: `<tool_call>{"name": …, "arguments": …}</tool_call>`
(Hermes, Qwen 2.5, Qwen 3) and a reply that is nothing but `{"name": …, "parameters": …}` (Llama 3). What only looks
like a call is text: nothing that a model writes is ever lost.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from penstock.base.ids import new_id
from penstock.providers.engines.argument_grammars import JSON_RULES, write_arguments
from penstock.providers.engines.choices import quote_literal

CallForm = Literal["hermes", "llama3"]
OPEN, CLOSE, PYTHON_TAG = "<tool_call>", "</tool_call>", "<|python_tag|>"
MARKS = (OPEN, CLOSE, PYTHON_TAG)
"""Texts that some tokenizers hold as control tokens, which engines leave out of text unless told otherwise."""
_BETWEEN = re.compile(r"[\s;,]*")


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """A call as a model wrote it."""

    id: str
    name: str
    arguments: str
    """A JSON object, spaced as templates write it when the call comes back as history."""


Part = str | ToolCall


class CallReader(Protocol):
    """Tells texts and calls apart in a reply that comes in pieces."""

    def feed(self, text: str) -> list[Part]:
        """Return what is certain by now; a text that may become a call is held back."""
        ...

    def finish(self) -> list[Part]:
        """Return the rest."""
        ...


def find_form(names: Iterable[str]) -> CallForm | None:
    """Return how a model writes calls, by the names and texts in its template; None where that is not known here."""
    text = "\n".join(names)
    if OPEN in text:
        return None if "<function=" in text else "hermes"
    return "llama3" if '"parameters"' in text and '"name"' in text else None


def open_reader(form: CallForm, names: Sequence[str], *, is_single: bool) -> CallReader:
    """Return a reader of replies by a model that was told of the tools `names`."""
    return _HermesReader(is_single) if form == "hermes" else _LlamaReader(frozenset(names), is_single)


def write_call_grammar(form: CallForm, tools: Sequence[Mapping[str, Any]]) -> str:
    """Return the grammar (GBNF) whose only sentences are one call of one of `tools`."""
    inner = "arguments" if form == "hermes" else "parameters"
    before, after = (f"{OPEN}\n", f"\n{CLOSE}") if form == "hermes" else ("", "")
    calls, rules = [], []
    for number, tool in enumerate(tools):
        function = tool["function"]
        head = f'{before}{{"name": {json.dumps(function["name"], ensure_ascii=False)}, "{inner}": '
        calls.append(f"{quote_literal(head)} tool{number} {quote_literal('}' + after)}")
        rules.append(write_arguments(function.get("parameters"), f"tool{number}"))
    return "\n".join([f"root ::= {' | '.join(calls)}", *rules]) + JSON_RULES


class _HermesReader:
    """Calls between marks, anywhere in the text."""

    def __init__(self, is_single: bool) -> None:
        self._held = ""
        self._is_inside = False
        self._n_calls = 0
        self._is_single = is_single

    def feed(self, text: str) -> list[Part]:
        self._held += text
        parts: list[Part] = []
        while True:
            before, mark, after = self._held.partition(CLOSE if self._is_inside else OPEN)
            if not mark:
                break
            self._held = after
            if self._is_inside:
                parts += self._take(before, f"{OPEN}{before}{CLOSE}")
            elif before.strip():
                parts.append(before.rstrip())
            self._is_inside = not self._is_inside
        if not self._is_inside and (n_sure := len(self._held) - _open_end(self._held)):
            parts.append(self._held[:n_sure])
            self._held = self._held[n_sure:]
        return parts

    def finish(self) -> list[Part]:
        held, self._held = self._held, ""
        if self._is_inside:  # some models end their turn in the place of the mark
            return self._take(held, f"{OPEN}{held}")
        return [held] if held and (held.strip() or not self._n_calls) else []

    def _take(self, told: str, text: str) -> list[Part]:
        call = _read_call(told)
        if call is None:
            return [text]
        self._n_calls += 1
        return [] if self._is_single and self._n_calls > 1 else [call]


class _LlamaReader:
    """A reply that is calls alone, one after the other."""

    def __init__(self, names: frozenset[str], is_single: bool) -> None:
        self._names = names
        self._is_single = is_single
        self._held = ""
        self._is_text = False

    def feed(self, text: str) -> list[Part]:
        if self._is_text:
            return [text]
        self._held += text
        begin = self._held.lstrip()
        if not begin or PYTHON_TAG.startswith(begin) or begin.startswith(("{", PYTHON_TAG)):
            return []
        self._is_text = True
        return self._give()

    def finish(self) -> list[Part]:
        told = self._held.strip().removeprefix(PYTHON_TAG)
        calls: list[ToolCall] = []
        at = _end_of(_BETWEEN, told, 0)
        while at < len(told):
            try:
                value, at = _DECODER.raw_decode(told, at)
            except (ValueError, RecursionError):
                return self._give()
            call = _as_call(value)
            if call is None or call.name not in self._names:
                return self._give()
            calls.append(call)
            at = _end_of(_BETWEEN, told, at)
        if not calls:
            return self._give()
        return [*(calls[:1] if self._is_single else calls)]

    def _give(self) -> list[Part]:
        held, self._held = self._held, ""
        return [held] if held else []


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _read_call(text: str) -> ToolCall | None:
    try:
        return _as_call(_DECODER.decode(text.strip()))
    except (ValueError, RecursionError):
        return None


def _as_call(value: Any) -> ToolCall | None:
    """Return a decoded value as a call; None unless it has a name and an object of arguments."""
    name = value.get("name") if isinstance(value, dict) else None
    if not isinstance(name, str) or not name:
        return None
    arguments = value.get("arguments", value.get("parameters", {}))
    try:
        if isinstance(arguments, str):
            arguments = _DECODER.decode(arguments)
        if not isinstance(arguments, dict):
            return None
        text = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError):
        return None
    return ToolCall(id=new_id("call"), name=name, arguments=text)


def _open_end(text: str) -> int:
    """Return how many characters at the end may belong to a mark: its beginning, and the space before it."""
    size = next(
        (size for size in range(min(len(OPEN) - 1, len(text)), 0, -1) if OPEN.startswith(text[-size:])), 0
    )
    rest = text[: len(text) - size]
    return size + len(rest) - len(rest.rstrip())


def _end_of(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return at if found is None else found.end()
