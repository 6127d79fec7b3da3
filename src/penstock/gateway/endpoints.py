"""What can be called: path → whose dialect, which operation, and what the path itself says of model and stream.

Paths that never vary are found in one lookup. Gemini and Bedrock write the model into the path; those are taken apart.
"""

import re
from typing import Literal
from urllib.parse import parse_qsl, quote, urlencode

import msgspec

from penstock.base.errors import InvalidInput
from penstock.spec.routes import DialectName, RouteKind

Operation = Literal[
    "chat",
    "text_completion",
    "count_tokens",
    "embeddings",
    "rerank",
    "moderations",
    "image_generation",
    "image_edit",
    "image_variation",
    "speech",
    "transcription",
    "translation",
    "search",
]
"""What is asked for, whatever the dialect; also the span's `gen_ai.operation.name`."""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One thing a client can ask for, in one dialect."""

    dialect: DialectName
    operation: Operation
    kind: RouteKind
    """The kind of route that serves it."""
    path: str
    """Below the base URL of a provider that speaks the same dialect. `{model}` stands for the target's model."""
    is_form: bool = False
    """Whether the body is `multipart/form-data` instead of JSON."""
    may_be_binary: bool = False
    """Whether a reply that is not JSON (sound, subtitles, an event stream of its own kind) is a good one."""
    model: str | None = None
    """As the path says it."""
    stream: bool | None = None
    """As the path says it."""

    def upstream_path(self, model: str) -> str:
        """Return the path for a target of the same dialect that calls its model `model`."""
        return self.path if self.model is None else self.path.replace("{model}", quote(model, safe=""))


def _openai(
    operation: Operation,
    path: str,
    *,
    kind: RouteKind = "any",
    is_form: bool = False,
    may_be_binary: bool = False,
) -> Endpoint:
    return Endpoint(
        dialect="openai",
        operation=operation,
        kind=kind,
        path=path,
        is_form=is_form,
        may_be_binary=may_be_binary,
    )


CALLS: dict[str, Endpoint] = {
    "/v1/chat/completions": _openai("chat", "/chat/completions", kind="chat"),
    "/v1/completions": _openai("text_completion", "/completions", kind="chat"),
    "/v1/responses": Endpoint(dialect="responses", operation="chat", kind="chat", path="/responses"),
    "/v1/embeddings": _openai("embeddings", "/embeddings", kind="embedding"),
    "/v1/rerank": _openai("rerank", "/rerank", kind="rerank"),
    "/v1/moderations": _openai("moderations", "/moderations"),
    "/v1/images/generations": _openai("image_generation", "/images/generations", may_be_binary=True),
    "/v1/images/edits": _openai("image_edit", "/images/edits", is_form=True, may_be_binary=True),
    "/v1/images/variations": _openai("image_variation", "/images/variations", is_form=True),
    "/v1/audio/speech": _openai("speech", "/audio/speech", may_be_binary=True),
    "/v1/audio/transcriptions": _openai(
        "transcription", "/audio/transcriptions", is_form=True, may_be_binary=True
    ),
    "/v1/audio/translations": _openai("translation", "/audio/translations", is_form=True, may_be_binary=True),
    "/v1/messages": Endpoint(dialect="anthropic", operation="chat", kind="chat", path="/messages"),
    "/v1/messages/count_tokens": Endpoint(
        dialect="anthropic", operation="count_tokens", kind="chat", path="/messages/count_tokens"
    ),
    "/v2/chat": Endpoint(dialect="cohere", operation="chat", kind="chat", path="/chat"),
    "/v2/embed": Endpoint(dialect="cohere", operation="embeddings", kind="embedding", path="/embed"),
    "/v2/rerank": Endpoint(dialect="cohere", operation="rerank", kind="rerank", path="/rerank"),
}
"""Calls to models at addresses that never vary. All take POST."""

SUPPORTED = (
    "POST to "
    + ", ".join(CALLS)
    + ", /v1/vector_stores/NAME/search, /v1beta/models/MODEL:generateContent, /model/MODEL/converse; GET /v1/models, /v1beta/models"
)

_GEMINI = re.compile(
    r"/v1(?:beta1?|alpha)?/(?:projects/[^/]+/locations/[^/]+/publishers/[^/]+/)?models/(.+):(\w+)"
)
_GEMINI_ACTIONS: dict[str, tuple[Operation, RouteKind, bool | None]] = {
    "generateContent": ("chat", "chat", False),
    "streamGenerateContent": ("chat", "chat", True),
    "countTokens": ("count_tokens", "chat", False),
    "embedContent": ("embeddings", "embedding", False),
    "batchEmbedContents": ("embeddings", "embedding", False),
}
_SEARCH = re.compile(r"/v1/vector_stores/([^/]+)/search/?")
KNOWLEDGE = "knowledge:"
"""How routes are called that search a knowledge base."""
_BEDROCK = re.compile(r"/model/(.+)/(converse|converse-stream)")


def find_endpoint(path: str) -> Endpoint | None:
    """Return what POST to `path` (percent-decoded) asks for, or None if nothing answers there."""
    found = CALLS.get(path)
    if found is not None:
        return found
    match = _GEMINI.fullmatch(path)
    if match is not None:
        action = _GEMINI_ACTIONS.get(match.group(2))
        if action is None:
            return None
        operation, kind, stream = action
        return Endpoint(
            dialect="gemini",
            operation=operation,
            kind=kind,
            path=f"/models/{{model}}:{match.group(2)}",
            model=match.group(1),
            stream=stream,
        )
    match = _SEARCH.fullmatch(path)
    if match is not None:
        return Endpoint(
            dialect="openai",
            operation="search",
            kind="search",
            path="/vector_stores/{model}/search",
            model=KNOWLEDGE + match.group(1).removeprefix(KNOWLEDGE),
        )
    match = _BEDROCK.fullmatch(path)
    if match is not None:
        return Endpoint(
            dialect="bedrock",
            operation="chat",
            kind="chat",
            path=f"/model/{{model}}/{match.group(2)}",
            model=match.group(1),
            stream=match.group(2) == "converse-stream",
        )
    return None


_MAX_PARAMETERS = 64


def split_query(query: bytes) -> tuple[bytes | None, bytes]:
    """Return the key that a query holds (`?key=`, as Google's clients may send it), and what a provider may see of it.

    That is `alt` alone, which says in which form Gemini streams: all else is said by the provider's row. Raises
    `InvalidInput` for more parameters than any client has.
    """
    key: bytes | None = None
    kept = b""
    try:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=_MAX_PARAMETERS)
    except ValueError:
        raise InvalidInput(f"The address has over {_MAX_PARAMETERS} query parameters.") from None
    for name, value in pairs:
        if name == "key":
            key = value.encode()
        elif name == "alt":
            kept = urlencode({"alt": value}).encode("ascii")
    return key, kept
