"""The six-dialect upstream in a thread of its own, with what the clients' tests ask beside text and tools."""

import asyncio
import base64
import json
import struct
import threading
from typing import Any

from tests.fixtures.upstreams import replies
from tests.fixtures.upstreams.clients import PICTURE
from tests.fixtures.upstreams.server import dialect_of, speak
from tests.gateway.upstream import Exchange, FakeUpstream

Json = dict[str, Any]
CITY = '{"city":"Oslo"}'
THOUGHT, SIGNATURE = "Water is wet.", "c2lnbmVk"
VECTORS = ((0.5, 1.0), (0.25, -1.0))
SOUND = b"ID3\x00\xff" * 40
LOGPROBS = {
    "content": [{"token": "Drink", "logprob": -0.25, "bytes": [68], "top_logprobs": []}],
    "refusal": None,
}


async def answer(exchange: Exchange) -> None:
    """Answer what `speak` does, and vectors, pictures, sounds, counts, thoughts, JSON, delays and faults."""
    path = exchange.head.split(b" ", 2)[1].decode().partition("?")[0]
    special = _SPECIAL.get(path)
    if special is not None:
        await special(exchange)
        return
    if ":batchEmbedContents" in path or ":embedContent" in path:
        await exchange.reply({"embeddings": [{"values": list(vector)} for vector in VECTORS]})
        return
    dialect, model, is_stream = dialect_of(exchange)
    if model == "json":
        await _say_json(exchange, dialect)
    elif model == "think":
        await _think(exchange, is_stream)
    elif model == "logprobs":
        reply = replies.openai_reply(tools=False)
        reply["choices"][0]["logprobs"] = LOGPROBS
        await exchange.reply(reply)
    elif model == "slow":
        await asyncio.sleep(30)
    elif model == "broken-server":
        await exchange.reply({"error": {"message": "It broke.", "type": "server_error"}}, status=500)
    else:
        await speak(exchange)


async def _say_json(exchange: Exchange, dialect: str) -> None:
    whole = {"openai": replies.openai_reply, "responses": replies.responses_reply,
             "anthropic": replies.anthropic_reply, "gemini": replies.gemini_reply, "cohere": replies.cohere_reply,
             "bedrock": replies.bedrock_reply}[dialect](tools=False)  # fmt: skip
    await exchange.reply(json.dumps(whole).replace('"Drink water."', json.dumps(CITY)).encode())


async def _think(exchange: Exchange, is_stream: bool) -> None:
    whole = replies.anthropic_reply(tools=False)
    block = {"type": "thinking", "thinking": THOUGHT, "signature": SIGNATURE}
    if not is_stream:
        await exchange.reply({**whole, "content": [block, *whole["content"]]})
        return
    events: list[Json] = [
        {"type": "message_start", "message": {**whole, "content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": {**block, "thinking": "", "signature": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": THOUGHT}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": SIGNATURE}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": text}}
          for text in replies.TEXT),
        {"type": "content_block_stop", "index": 1},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None},
         "usage": {"output_tokens": 8}},
        {"type": "message_stop"},
    ]  # fmt: skip
    await exchange.begin_stream()
    for piece in replies.sse(*((event["type"], event) for event in events)):
        await exchange.piece(piece)
    await exchange.end_stream()


async def _embed(exchange: Exchange) -> None:
    asked = exchange.json
    vectors: list[Any] = [list(vector) for vector in VECTORS]
    if asked.get("encoding_format") == "base64":
        vectors = [base64.b64encode(struct.pack(f"<{len(v)}f", *v)).decode() for v in vectors]
    n = len(asked["input"]) if isinstance(asked["input"], list) else 1
    data = [{"object": "embedding", "index": i, "embedding": vectors[i]} for i in range(n)]
    usage = {"prompt_tokens": 3, "total_tokens": 3}
    await exchange.reply({"object": "list", "data": data, "model": "up-embed", "usage": usage})


async def _embed_cohere(exchange: Exchange) -> None:
    meta = {"api_version": {"version": "2"}, "billed_units": {"input_tokens": 3}}
    vectors = [list(vector) for vector in VECTORS]
    texts = exchange.json.get("texts", [])
    await exchange.reply({"id": "e1", "embeddings": {"float": vectors}, "texts": texts, "meta": meta,
                          "response_type": "embeddings_by_type"})  # fmt: skip


async def _moderate(exchange: Exchange) -> None:
    result = {"flagged": True, "categories": {"violence": True}, "category_scores": {"violence": 0.75},
              "category_applied_input_types": {"violence": ["text"]}}  # fmt: skip
    await exchange.reply({"id": "modr-1", "model": "up-mod", "results": [result]})


async def _draw(exchange: Exchange) -> None:
    usage = {"input_tokens": 4, "output_tokens": 6, "total_tokens": 10,
             "input_tokens_details": {"text_tokens": 4, "image_tokens": 0}}  # fmt: skip
    await exchange.reply({"created": 1, "data": [{"b64_json": PICTURE}], "usage": usage})


async def _speak_aloud(exchange: Exchange) -> None:
    await exchange.reply(SOUND, kind="audio/mpeg")


async def _hear(exchange: Exchange) -> None:
    await exchange.reply({"text": "Drink water.", "usage": {"type": "duration", "seconds": 2}})


async def _count(exchange: Exchange) -> None:
    await exchange.reply({"input_tokens": 17})


async def _rank(exchange: Exchange) -> None:
    await exchange.reply({"id": "r1", "results": [{"index": 1, "relevance_score": 0.75}],
                          "meta": {"billed_units": {"search_units": 1}}})  # fmt: skip


async def _complete(exchange: Exchange) -> None:
    usage = {"prompt_tokens": 20, "completion_tokens": 8, "total_tokens": 28}
    base = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "up-1"}
    if not exchange.json.get("stream"):
        choice = {"index": 0, "text": "".join(replies.TEXT), "finish_reason": "stop", "logprobs": None}
        await exchange.reply({**base, "choices": [choice], "usage": usage})
        return
    await exchange.begin_stream()
    for piece in replies.sse(
        *({**base, "choices": [{"index": 0, "text": text, "finish_reason": None}]} for text in replies.TEXT),
        {**base, "choices": [{"index": 0, "text": "", "finish_reason": "stop"}]},
        done=True,
    ):
        await exchange.piece(piece)
    await exchange.end_stream()


_SPECIAL = {
    "/v1/completions": _complete,
    "/v1/images/variations": _draw,
    "/v1/audio/translations": _hear,
    "/v1/embeddings": _embed,
    "/v2/embed": _embed_cohere,
    "/v2/rerank": _rank,
    "/v1/moderations": _moderate,
    "/v1/images/generations": _draw,
    "/v1/images/edits": _draw,
    "/v1/audio/speech": _speak_aloud,
    "/v1/audio/transcriptions": _hear,
    "/v1/messages/count_tokens": _count,
}


class UpstreamThread:
    """Runs the upstream on a loop of its own, because most clients block their thread."""

    def __init__(self) -> None:
        self.upstream = FakeUpstream(answer)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="upstream", daemon=True)

    def start(self) -> str:
        """Start; return the origin."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.upstream.start(), self._loop).result(10)
        return f"http://127.0.0.1:{self.upstream.port}"

    def stop(self) -> None:
        """Stop the server and the thread."""
        asyncio.run_coroutine_threadsafe(self.upstream.stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
