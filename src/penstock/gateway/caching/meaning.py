"""The semantic cache at work: embeds questions through a route, finds near ones, and checks a sample of its own answers."""

import asyncio
import logging
import random
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec

from penstock.base.errors import PenstockError
from penstock.dialects.assembly import assemble
from penstock.dialects.registry import DIALECTS
from penstock.gateway.caching.keys import frame_of
from penstock.gateway.caching.semantic import (
    KEEP_QUESTIONS,
    Nearest,
    Question,
    cosine,
    find_nearest,
    find_question,
    normalise,
    write_record,
)
from penstock.gateway.caching.stores import LocalReplies
from penstock.gateway.calls import Call
from penstock.gateway.endpoints import Endpoint
from penstock.gateway.outgoing import read_hub_request
from penstock.spec.hub import HubReply, Text
from penstock.spec.routes import CachePolicy, DialectName
from penstock.store.response_cache import KeptReply

_log = logging.getLogger("penstock.gateway")
EMBED_WITHIN_S = 0.3
"""A question that is not embedded by then is a miss."""
AGREES_FROM = 0.75
"""Cosine from which the kept answer and a fresh one count as saying the same. Two answers of one model to one question
rarely lie below."""
MAX_CHECKS = 4
_CHECKED = ("openai", "responses", "anthropic", "cohere")
"""Dialects whose requests say in the body whether to stream."""


class Asks(Protocol):
    """Calls of the gateway's own (`internal_calls.InternalCalls`). Both raise `PenstockError`."""

    async def ask(self, parent: Call, endpoint: Endpoint, body: bytes) -> bytes:
        """Return the body of a successful reply."""
        ...

    async def embed(self, parent: Call, route: str, texts: list[str]) -> list[list[float]]:
        """Return one vector for each text."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """A question that was embedded and found no answer: what is needed to keep the answer that comes."""

    question: Question
    vector: "array[float]"


class Meaning:
    """Looks questions up by meaning. For one event loop."""

    def __init__(
        self, asks: Asks, count: Callable[[str, str], None], *, rng: random.Random | None = None
    ) -> None:
        """`count` is called with a route and what to count."""
        self._asks = asks
        self._count = count
        self._rng = rng or random.Random()
        self._checks: set[asyncio.Task[None]] = set()

    async def look_up(
        self, call: Call, policy: CachePolicy, store: LocalReplies
    ) -> tuple[Nearest | None, Probe | None]:
        """Return the nearest kept question, if one is near enough, and how to keep a new one (None: it must not be)."""
        try:
            question = self._question(call, policy)
            if question is None:
                return None, None
            call.begin_wait()
            try:
                async with asyncio.timeout(EMBED_WITHIN_S):
                    (found,) = await self._asks.embed(call, policy.embedding_route, [question.text])
            finally:
                call.end_wait()
            vector = normalise(found)
            records = store.list_vectors(question.partition)
            nearest = await asyncio.to_thread(find_nearest, question, vector, records) if records else None
        except TimeoutError:
            self._count(_route(call), "slow")
            return None, None
        except (PenstockError, ValueError) as error:
            _log.warning("question not looked up by meaning", extra={"reason": str(error)})
            self._count(_route(call), "failed")
            return None, None
        if nearest is not None and nearest.similarity < policy.threshold:
            nearest = None
        return nearest, Probe(question=question, vector=vector)

    def keep(self, probe: Probe, key: bytes, store: LocalReplies) -> None:
        """Remember a question whose reply is kept under `key`."""
        record = write_record(probe.question, probe.vector)
        store.add_vector(probe.question.partition, key, record, keep=KEEP_QUESTIONS)

    def forget(self, probe: Probe, key: bytes, store: LocalReplies) -> None:
        """Forget a question whose reply is there no more."""
        store.drop_vectors(probe.question.partition, [key])

    def maybe_check(self, call: Call, policy: CachePolicy, reply: KeptReply) -> None:
        """For a sample of hits, ask the model too and compare: the estimate of false hits comes from here."""
        if (
            call.dialect in _CHECKED
            and len(self._checks) < MAX_CHECKS
            and self._rng.random() < policy.check_ratio
        ):
            task = asyncio.create_task(self._check(call, policy, reply), name="cache-check")
            self._checks.add(task)
            task.add_done_callback(self._checks.discard)

    async def close(self) -> None:
        """End running checks."""
        for task in self._checks:
            task.cancel()
        await asyncio.gather(*self._checks, return_exceptions=True)

    def _question(self, call: Call, policy: CachePolicy) -> Question | None:
        if call.operation != "chat":
            return None
        return find_question(read_hub_request(call), policy, frame_of(call))

    async def _check(self, call: Call, policy: CachePolicy, reply: KeptReply) -> None:
        try:
            body = msgspec.json.decode(call.body)
            body["stream"] = False
            body.pop("stream_options", None)
            fresh = await self._asks.ask(call, call.endpoint, msgspec.json.encode(body))
            kept_text = read_answer(call.dialect, reply.body, is_stream=reply.is_stream)
            fresh_text = read_answer(call.dialect, fresh, is_stream=False)
            kept, new = await self._asks.embed(call, policy.embedding_route, [kept_text, fresh_text])
        except (PenstockError, ValueError) as error:
            _log.warning("hit not checked", extra={"reason": str(error)})
            return
        self._count(_route(call), "checked")
        if cosine(normalise(kept), normalise(new)) < AGREES_FROM:
            self._count(_route(call), "differed")


def read_answer(dialect: DialectName, body: bytes, *, is_stream: bool) -> str:
    """Return the text of a reply in a client's dialect; raises `ValueError` if it has none."""
    reply: HubReply
    if is_stream:
        reader = DIALECTS[dialect].stream_reader()
        reply = assemble([*reader.feed(body), *reader.finish()], source=dialect)
    else:
        reply = DIALECTS[dialect].read_reply(body)
    parts = reply.choices[0].parts if reply.choices else []
    text = "\n".join(part.text for part in parts if isinstance(part, Text)).strip()
    if not text:
        raise ValueError("the reply has no text")
    return text


def _route(call: Call) -> str:
    assert call.route is not None
    return call.route.route.name
