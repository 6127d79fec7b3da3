"""Brings the tool calls of one streamed choice into line: parts of the hub come one after the other.

Servers that decode several calls at once mix their deltas. A call of which deltas come while an earlier one is not
whole waits until that one's arguments are, or until the choice ends; calls that come in turn are never held back.
"""

from typing import Any

from penstock.base.errors import InvalidInput
from penstock.dialects.members import Members
from penstock.dialects.openai.request_read import read_tool_calls
from penstock.dialects.part_line import PartLine
from penstock.spec.hub import Event, ToolCall


class CallLine:
    """The tool calls of one choice, on the same line as its other parts."""

    def __init__(self, line: PartLine) -> None:
        self._line = line
        self._calls: dict[int, _Call] = {}
        """By the index that their deltas carry, in the order they began."""
        self._waiting: list[_Call] = []
        self._last: _Call | None = None
        """The one that was begun last."""

    @property
    def has_any(self) -> bool:
        """Whether a call has come so far."""
        return bool(self._calls)

    def read(self, delta: Members, place: int) -> list[Event]:
        """Take one delta, which stands at `place` of its chunk; raise `InvalidInput` if its call is over already."""
        function = delta.peek("function")
        function = function if isinstance(function, dict) else {}
        index = delta.integer("index")
        if index is None:  # some servers send whole calls and number none
            begins = delta.peek("id") or function.get("name")
            index = len(self._calls) if begins else max(self._calls, default=place)
        text = function.get("arguments")
        text = text if isinstance(text, str) else ""
        call = self._calls.get(index)
        if call is None:
            call = self._calls[index] = _Call(_read_head(delta, function, index))
            call.add(text)
            self._waiting.append(call)
            return self._move_up()
        call.add(text)
        if call.number < 0:
            return []
        if not self._is_open(call):
            if text.strip():
                raise InvalidInput(f"tool call {index} goes on after another part has begun.")
            return []
        events = self._line.delta(text) if text else []
        return [*events, *self._move_up()] if self._waiting else events

    def flush(self) -> list[Event]:
        """Give all calls that wait: no delta comes any more."""
        waiting, self._waiting = self._waiting, []
        return [event for call in waiting for event in self._begin(call)]

    def _move_up(self) -> list[Event]:
        """Give waiting calls as long as none that is open may go on."""
        events: list[Event] = []
        while self._waiting:
            if self._last is not None and self._is_open(self._last) and not self._last.is_whole():
                break
            events += self._begin(self._waiting.pop(0))
        return events

    def _begin(self, call: "_Call") -> list[Event]:
        events = self._line.start(call.part)
        call.number = self._line.index
        self._last = call
        text = "".join(call.pieces)
        return [*events, *self._line.delta(text)] if text else events

    def _is_open(self, call: "_Call") -> bool:
        return call.number == self._line.index and self._line.open is not None


class _Call:
    def __init__(self, part: Any) -> None:
        self.part = part
        self.number = -1
        """Of its part; -1 while it waits."""
        self.pieces: list[str] = []
        self._n_seen = 0
        self._depth = 0
        self._in_string = False
        self._is_escaped = False
        self._has_ended = False

    def add(self, text: str) -> None:
        if text:
            self.pieces.append(text)

    def is_whole(self) -> bool:
        """Return whether the arguments are a whole JSON object. Each piece is looked at once, whatever is asked."""
        for piece in self.pieces[self._n_seen :]:
            self._look_at(piece)
        self._n_seen = len(self.pieces)
        return self._has_ended

    def _look_at(self, piece: str) -> None:
        for char in piece:
            if self._is_escaped:
                self._is_escaped = False
            elif self._in_string:
                self._in_string = char != '"'
                self._is_escaped = char == "\\"
            elif char == '"':
                self._in_string = True
            elif char in "{[":
                self._depth += 1
            elif char in "}]":
                self._depth -= 1
                self._has_ended = self._has_ended or self._depth <= 0


def _read_head(delta: Members, function: dict[str, Any], index: int) -> Any:
    rest = delta.rest()
    rest.setdefault("id", f"call_{index}")
    if isinstance(rest.get("function"), dict):
        rest["function"] = {**function, "name": function.get("name") or "", "arguments": ""}
    part = read_tool_calls(Members({"tool_calls": [rest]}))[0]
    if isinstance(part, ToolCall):
        part.extra.pop("index", None)
    return part
