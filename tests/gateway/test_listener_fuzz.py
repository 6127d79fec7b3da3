"""Requests in pieces of any size are read alike, and damaged ones end in one refusal or one reply, never in an exception."""

import asyncio
import re
from typing import Any

import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from penstock.gateway.protocol import Guard, GuardedProtocol

BODY = b'{"model": "m", "messages": []}'
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer k\r\n"
GOOD = [
    HEAD + b"content-length: %d\r\n\r\n%b" % (len(BODY), BODY),
    HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (BODY[:5], len(BODY) - 5, BODY[5:]),
    HEAD + b"upgrade: h2c\r\nconnection: upgrade\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY),
]  # fmt: skip
DAMAGE = st.lists(
    st.tuples(st.integers(0, 300), st.sampled_from([b"\r", b"\n", b"\0", b" ", b":", b"\xff", b"%", b"/", b"9", b"", b"\r\n\r\n"])),
    min_size=1,
    max_size=4,
)  # fmt: skip


class Pipe(asyncio.Transport):
    """A transport that keeps what was written."""

    def __init__(self) -> None:
        self.written = b""
        self.is_over = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.is_over = True

    def is_closing(self) -> bool:
        return self.is_over

    def close(self) -> None:
        self.is_over = True

    def abort(self) -> None:
        self.is_over = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the body."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return
        body += message["body"]
        if not message["more_body"]:
            break
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]}
    )
    await send({"type": "http.response.body", "body": body})


async def answer(pieces: list[bytes]) -> bytes:
    config = uvicorn.Config(echo, log_config=None, access_log=False)
    config.load()
    state = ServerState()
    protocol = GuardedProtocol(Guard(), config, state, {}, asyncio.get_running_loop())
    pipe = Pipe()
    protocol.connection_made(pipe)
    for piece in pieces:
        if not pipe.is_over:
            protocol.data_received(piece)
        await asyncio.sleep(0)
    for _ in range(3):
        await asyncio.sleep(0)
    protocol.connection_lost(None)
    await asyncio.gather(*state.tasks)
    return pipe.written


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = [*sorted(min(place, len(data)) for place in places), len(data)]
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False) if end > start]


@settings(max_examples=100, deadline=None)
@given(good=st.sampled_from(GOOD[:2]), places=st.lists(st.integers(0, 250), max_size=12))
def test_a_request_is_read_alike_in_any_pieces(good: bytes, places: list[int]) -> None:
    reply = asyncio.run(answer(cut(good, places)))
    assert reply.startswith(b"HTTP/1.1 200 ")
    assert reply.endswith(b"\r\n\r\n" + BODY)


def test_a_wish_for_another_protocol_costs_no_body() -> None:
    assert asyncio.run(answer([GOOD[2]])).endswith(b"\r\n\r\n" + BODY)


@settings(max_examples=150, deadline=None)
@given(good=st.sampled_from(GOOD), damage=DAMAGE, places=st.lists(st.integers(0, 250), max_size=6))
def test_a_damaged_request_is_answered_once_or_awaited(
    good: bytes, damage: list[tuple[int, bytes]], places: list[int]
) -> None:
    for number, other in damage:
        place = number % len(good)
        good = good[:place] + other + good[place + 1 :]
    reply = asyncio.run(answer(cut(good, places)))
    statuses = re.findall(rb"HTTP/1\.1 (\d\d\d) [A-Z]", reply)
    assert set(statuses) <= {b"200", b"400"}
    assert statuses.count(b"400") <= 1
