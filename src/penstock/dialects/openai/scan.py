"""Watches a copy of a chat stream that goes on unchanged: has it begun, has it ended, what was its usage."""

import re

import msgspec

from penstock.dialects.openai.errors import read_stream_error
from penstock.dialects.openai.sse import StreamTail, iter_data
from penstock.dialects.openai.usage import UsageObject, disjoint_usage
from penstock.spec.hub import HubError
from penstock.spec.usage import Usage

_CONTENT = re.compile(
    rb'"(?:content|reasoning_content|reasoning|refusal|text|arguments)"\s*:\s*"[^"]'
    rb'|"(?:content|tool_calls|images)"\s*:\s*\[\s*\{|"(?:audio|function_call)"\s*:\s*\{'
)
_OVERLAP = 64
"""Bytes of a piece that are looked at again with the next one, because a match may lie across."""


class ChatScanner:
    """Looks with a search of bytes until the first content, and then only keeps the last few kilobytes."""

    def __init__(self) -> None:
        self._tail = StreamTail()
        self._before = b""
        self._has_content = False
        self._found: tuple[UsageObject | None, str | None] | None = None

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        self._tail.feed(data)
        self._found = None
        if not self._has_content:
            seen = self._before + data
            self._has_content = _CONTENT.search(seen) is not None
            self._before = b"" if self._has_content else seen[-_OVERLAP:]

    @property
    def has_content(self) -> bool:
        """Whether text, thoughts, a refusal or a tool call has come."""
        return self._has_content

    def usage(self) -> Usage | None:
        """Return the usage told last."""
        wire, _ = self._find()
        return None if wire is None else disjoint_usage(wire)

    def model(self) -> str | None:
        """Return the model that answers."""
        return self._find()[1]

    def _find(self) -> tuple[UsageObject | None, str | None]:
        if self._found is None:
            self._found = self._tail.find_usage()
        return self._found

    def is_finished(self) -> bool:
        """Return whether a finish reason or `[DONE]` has come."""
        return self._tail.is_finished()

    def error(self) -> HubError | None:
        """Return the error of the last events, if one of them is one."""
        tail = self._tail.content
        if b'"error"' not in tail:
            return None
        for data in iter_data(tail):
            if b'"error"' in data:
                try:
                    chunk = msgspec.json.decode(data)
                except (msgspec.DecodeError, UnicodeError, RecursionError):
                    continue
                if isinstance(chunk, dict) and (error := read_stream_error(chunk)):
                    return error
        return None
