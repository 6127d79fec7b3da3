"""Plain text out of payloads: what the list shows of a call, and what text search looks at.

Knows the shapes of OpenAI requests and replies and of the GenAI conventions' message parts; of anything
else it takes every string it finds. Keys and punctuation of JSON are left out, so a search for `content`
does not find every chat.
"""

from typing import Any

import msgspec

from penstock.store.spans.json_text import parse_payload, write_payload

PREVIEW_CHARS = 200
SEARCH_CHARS = 2000
"""Characters of each of input and output that text search sees."""
QUESTION_CHARS = 1000
"""How many of them are kept for the last question, however much stands before it."""
_BEGINNING = 40
_END = 80
_MAX_DEPTH = 12
_NUMBERS = frozenset({int, float, bool})
_NOT_TEXT = frozenset(
    [
        "role",
        "type",
        "id",
        "object",
        "model",
        "finish_reason",
        "tool_call_id",
        "index",
        "created",
        "system_fingerprint",
        "service_tier",
        "encoding_format",
        "image_url",
        "input_audio",
        "logprobs",
        "usage",
        "data",
        "mime_type",
        "stream",
        "stream_options",
    ]
)
_CHAT = _NOT_TEXT | {"messages"}
_MAX_PLAIN = 8


class Reading(msgspec.Struct, gc=False):
    """A payload as a value, as JSON text, and what text search sees of it."""

    value: Any
    text: str | None
    excerpt: str
    preview: str | msgspec.UnsetType | None = msgspec.UNSET
    """`preview_of` it, once somebody asked."""


_NOTHING = Reading(None, None, "", preview=None)


class PayloadReader:
    """Reads the payloads of a batch. Many come several times: of a gateway, of the app behind it and of its model call.

    It keeps what it has read, so let go of it with the batch. What comes again costs no more than writing its JSON, and
    the very same object not even that; all of them are stored from one text. Payloads are JSON values, so what
    is written alike says the same.
    """

    def __init__(self) -> None:
        self._objects: dict[int, Reading] = {}
        """By id of the value: its reading holds it, so nothing else gets that id."""
        self._read: dict[tuple[int, str], Reading] = {}
        """By length and end of the text, the last of each: a look at all of it would take as long as writing it."""
        self._last = self._before = _NOTHING
        """What comes again mostly comes at once, with the other payload of its span between."""

    def read(self, payload: Any) -> Reading:
        """Return what is in `payload`, which is a JSON value, JSON as `msgspec.Raw`, or None."""
        if payload is None:
            return _NOTHING
        found = self._objects.get(id(payload))
        if found is not None:
            return found
        written = write_payload(payload)
        found = self._before
        if found.text != written or written is None:
            found = self._find(payload, written)
        self._before, self._last = self._last, found
        return found

    def _find(self, payload: Any, written: str | None) -> Reading:
        if written is None:
            return _read(payload, None)
        key = (len(written), written[-_END:])
        found = self._read.get(key)
        if found is None or found.text != written:
            found = self._read[key] = _read(payload, written)
            if found.value is payload:
                self._objects[id(payload)] = found
        return found

    def preview(self, reading: Reading) -> str | None:
        """Return `preview_of` the payload, or None where there is none."""
        if reading.preview is msgspec.UNSET:
            reading.preview = preview_of(reading.value, reading.excerpt)
        return reading.preview


def _read(payload: Any, written: str | None) -> Reading:
    value, text = parse_payload(payload, written)
    return Reading(value, text, searched_text_of(value))


def preview_of(payload: Any, excerpt: str | None = None) -> str | None:
    """Return the first characters of what a person would call the question, or None if there is no text."""
    text = _last_user_text(payload)
    if text is None:
        text = excerpt_of(payload, limit=PREVIEW_CHARS) if excerpt is None else excerpt
    text = text[: PREVIEW_CHARS + 50]
    # Mostly there is no white space but single blanks, and a look whether it is so takes a third of the time.
    is_plain = "  " not in text and text.isprintable()
    text = text.strip() if is_plain else " ".join(text.split())
    return text[:PREVIEW_CHARS] or None


def searched_text_of(payload: Any) -> str:
    """Return what text search sees of a payload: its beginning, and the last question if that stands further behind."""
    excerpt = excerpt_of(payload)
    if len(excerpt) < SEARCH_CHARS:
        return excerpt  # that is all of it
    question = (_last_user_text(payload, QUESTION_CHARS) or "")[:QUESTION_CHARS]
    if not question or _is_within(question, excerpt):
        return excerpt
    return f"{question}\n{excerpt[: SEARCH_CHARS - len(question) - 1]}"


def _is_within(question: str, excerpt: str) -> bool:
    """Return whether `question in excerpt`: its beginning is found in a tenth of the time of all of it."""
    place = excerpt.find(question[:_BEGINNING])
    return place >= 0 and (excerpt.startswith(question, place) or question in excerpt)


def excerpt_of(payload: Any, *, limit: int = SEARCH_CHARS) -> str:
    """Return up to `limit` characters of the strings in `payload`, in order, joined by newlines."""
    if isinstance(payload, str):
        return payload[:limit]
    texts = _plain_texts(payload)
    if texts is not None and sum(map(len, texts)) + len(texts) <= limit:
        return "\n".join(texts)
    pieces: list[str] = []
    _collect(payload if texts is None else texts, pieces, limit, 0)
    return "\n".join(pieces)[:limit]


def _plain_texts(payload: Any) -> list[str] | None:
    """Return the texts of a short chat of plain messages, which most payloads are, in half the time; None of others."""
    messages = payload
    if type(payload) is dict:
        messages = payload.get("messages") if payload.keys() <= _CHAT else None
    if type(messages) is not list or len(messages) > _MAX_PLAIN:
        return None
    texts = [
        message["content"]
        for message in messages
        if type(message) is dict
        and len(message) == 2
        and "role" in message
        and type(message.get("content")) is str
    ]
    return texts if len(texts) == len(messages) else None


def _collect(value: Any, pieces: list[str], left: int, depth: int) -> int:
    """Add the strings in `value` to `pieces` until `left` characters are used up; return how many are left."""
    kind = type(value)
    if kind is str:
        pieces.append(value[:left])
        return left - len(value) - 1
    if depth >= _MAX_DEPTH:
        return left
    items: Any = ()
    if kind is dict:
        items = [item for key, item in value.items() if key not in _NOT_TEXT]
    elif kind is list:
        # a list of numbers is a vector or token ids: no text, and long
        items = value if not value or type(value[0]) not in _NUMBERS else ()
    for item in items:
        if left <= 0:
            break
        kind = type(item)
        if kind is str:  # a call for each of them would double the time
            pieces.append(item[:left])
            left -= len(item) + 1
        elif kind is dict:
            if len(item) == 2 and "role" in item and type(text := item.get("content")) is str:
                pieces.append(text[:left])  # most of what there is: a message with its text
                left -= len(text) + 1
            else:
                left = _collect(item, pieces, left, depth + 1)
        elif kind is list:
            left = _collect(item, pieces, left, depth + 1)
    return left


def _last_user_text(payload: Any, limit: int = PREVIEW_CHARS + 50) -> str | None:
    messages = payload.get("messages") if isinstance(payload, dict) else payload
    if not isinstance(messages, list):
        return None
    for message in reversed(messages):
        if isinstance(message, dict) and message.get("role") == "user":
            content = message.get("content", message.get("parts"))
            if isinstance(content, str):
                return content or None
            return excerpt_of(content, limit=limit) if content else None
    return None
