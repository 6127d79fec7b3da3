"""Replies to questions that mean the same: the last user message may differ in its words, everything else may not.

A partition holds the questions of one caller's scope, one route and one frame: system prompt, earlier messages, tools
and parameters, all equal to the byte. Within it a question is answered by the reply to the nearest one, if that is near
enough and their guards are equal.
"""

from array import array
from dataclasses import dataclass
from hashlib import blake2b
from math import sqrt
from operator import mul

import msgspec

from penstock.gateway.caching.guards import GUARD_BYTES, guard_of
from penstock.gateway.caching.keys import ECHOING_DIALECTS
from penstock.spec.hub import HubRequest, Message, Text
from penstock.spec.routes import CachePolicy

PARTITION_BYTES = 16
KEEP_QUESTIONS = 500
"""Of a partition; the oldest are forgotten first."""
MAX_QUESTION_CHARS = 4000


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What is asked, apart from the frame it is asked in."""

    text: str
    partition: bytes
    guard: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Nearest:
    """The best candidate of a partition."""

    key: bytes
    similarity: float


def find_question(request: HubRequest, policy: CachePolicy, frame: bytes) -> Question | None:
    """Return the question of a request, None if it must not be answered by meaning.

    That is so for long conversations, for tools (unless the route wants it), for several choices, and when the last
    message is not plain text of the user. `frame` says whose request it is and where it goes.
    """
    turns = [message for message in request.messages if message.role not in ("system", "developer")]
    if not turns or len(turns) > policy.max_messages or (request.n or 1) > 1:
        return None
    if (request.tools or request.tool_choice is not None) and not policy.with_tools:
        return None
    last = turns[-1]
    if last is not request.messages[-1] or last.role != "user":
        return None
    texts = [part.text for part in last.parts if isinstance(part, Text)]
    text = "\n".join(texts).strip()
    if len(texts) != len(last.parts) or not 0 < len(text) <= MAX_QUESTION_CHARS:
        return None
    return Question(text=text, partition=_partition(request, frame), guard=guard_of(text))


def _partition(request: HubRequest, frame: bytes) -> bytes:
    is_echoed = request.source in ECHOING_DIALECTS
    asked = msgspec.structs.replace(
        request,
        model="",
        stream=False,
        stream_usage=False,
        user=request.user if is_echoed else None,
        metadata=request.metadata if is_echoed else {},
        messages=[*request.messages[:-1], Message(role="user")],
    )
    said = msgspec.json.encode(asked, order="deterministic")
    return blake2b(frame + b"\x1f" + said, digest_size=PARTITION_BYTES).digest()


def normalise(vector: "list[float]") -> "array[float]":
    """Return a vector of length one."""
    length = sqrt(sum(map(mul, vector, vector))) or 1.0
    return array("f", [value / length for value in vector])


def cosine(first: "array[float]", second: "array[float]") -> float:
    """Return the cosine of two normalised vectors."""
    return float(sum(map(mul, first, second)))


def write_record(question: Question, vector: "array[float]") -> bytes:
    """Return what a partition keeps of a question."""
    return question.guard + vector.tobytes()


def find_nearest(
    question: Question, vector: "array[float]", records: list[tuple[bytes, bytes]]
) -> Nearest | None:
    """Return the nearest question with an equal guard, None if there is none."""
    best: Nearest | None = None
    size = len(vector) * vector.itemsize
    for key, record in records:
        if record[:GUARD_BYTES] != question.guard or len(record) != GUARD_BYTES + size:
            continue
        similarity = cosine(vector, array("f", record[GUARD_BYTES:]))
        if best is None or similarity >= best.similarity:  # the later one, if two are equally near
            best = Nearest(key=key, similarity=similarity)
    return best
