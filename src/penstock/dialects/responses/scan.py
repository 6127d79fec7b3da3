"""Watches a copy of a response's stream that goes on unchanged. Only its first and last events are decoded."""

import re
from typing import Any

import msgspec

from penstock.dialects.openai.errors import read_stream_error
from penstock.dialects.responses.usage import read_usage
from penstock.dialects.sse_events import SseEvent, SseSplitter
from penstock.spec.hub import HubError
from penstock.spec.usage import Usage

_TYPE = re.compile(rb'"type"\s*:\s*"([a-z_.]+)"')
_LAST = ("response.completed", "response.incomplete", "response.failed", "response.cancelled")


class ResponsesScanner:
    """Knows events by their names."""

    def __init__(self) -> None:
        self._splitter = SseSplitter()
        self._has_content = False
        self._is_finished = False
        self._usage: Usage | None = None
        self._model: str | None = None
        self._error: HubError | None = None

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        for event in self._splitter.feed(data):
            self._take(event)

    @property
    def has_content(self) -> bool:
        """Whether a delta or a finished item has come."""
        return self._has_content

    def usage(self) -> Usage | None:
        """Return the usage that the last event told."""
        return self._usage

    def model(self) -> str | None:
        """Return the model that answers."""
        return self._model

    def is_finished(self) -> bool:
        """Return whether the event that closes the response has come."""
        return self._is_finished

    def error(self) -> HubError | None:
        """Return the error that an event reported."""
        return self._error

    def _take(self, event: SseEvent) -> None:
        kind = event.event or self._kind_of(event.data)
        if kind.endswith(".delta") or kind == "response.output_item.done":
            self._has_content = True
        elif kind == "error" or kind in _LAST or (self._model is None and kind.startswith("response.")):
            try:
                value = msgspec.json.decode(event.data)
            except (msgspec.DecodeError, UnicodeError, RecursionError):
                return
            if isinstance(value, dict):
                self._look_at(kind, value)

    def _kind_of(self, data: bytes) -> str:
        found = _TYPE.search(data[:200])
        return "" if found is None else found.group(1).decode()

    def _look_at(self, kind: str, value: dict[str, Any]) -> None:
        held = value.get("response")
        response = held if isinstance(held, dict) else {}
        model = response.get("model")
        self._model = model if isinstance(model, str) else self._model
        self._usage = read_usage(response.get("usage")) or self._usage
        if kind in ("error", "response.failed") and self._error is None:
            said = value.get("error") or response.get("error")
            said = said or {
                name: member for name, member in value.items() if name in ("code", "message", "param")
            }
            self._error = read_stream_error({"error": said})
        self._is_finished = self._is_finished or (kind in _LAST and kind != "response.failed")
