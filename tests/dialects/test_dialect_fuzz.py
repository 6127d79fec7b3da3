"""Wrong JSON in the right places: whatever a client or a provider sends, a dialect answers with its own errors only.

Golden requests, replies and streams get one or more of their values replaced by something of another kind.
"""

import contextlib
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.base.errors import InvalidInput
from penstock.dialects.registry import DIALECTS
from penstock.spec.hub import HubReply, HubRequest
from penstock.spec.routes import DialectName
from tests.dialects.stream_checks import read_stream, write_stream

GOLDEN = Path(__file__).parent / "golden"
NAMES: list[DialectName] = list(DIALECTS)
JUNK: list[Any] = [
    None,
    True,
    0,
    -1,
    1.5,
    10**30,
    "",
    "x",
    "\ud83d",
    [],
    ["x"],
    [None],
    {},
    {"type": "x"},
    {"a": None},
]


def goldens(name: DialectName, kind: str) -> list[Any]:
    return [json.loads(path.read_bytes()) for path in sorted((GOLDEN / name).glob(f"{kind}*.json"))]


def spoil(value: Any, pick: random.Random) -> Any:
    """Return `value` with one value in it replaced, removed or wrapped."""
    if isinstance(value, dict) and value and pick.random() < 0.85:
        name = pick.choice(list(value))
        return {**value, name: spoil(value[name], pick)}
    if isinstance(value, list) and value and pick.random() < 0.85:
        place = pick.randrange(len(value))
        return [*value[:place], spoil(value[place], pick), *value[place + 1 :]]
    return pick.choice([*JUNK, [value], {"type": value}])


def as_bytes(value: Any) -> bytes:
    return json.dumps(value).encode()


SEEDS = st.integers(0, 2**32)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, times=st.integers(1, 3))
def test_a_spoilt_request_is_read_or_refused(name: DialectName, seed: int, times: int) -> None:
    pick = random.Random(seed)
    for body in goldens(name, "request"):
        for _ in range(times):
            body = spoil(body, pick)  # noqa: PLW2901
        raw = as_bytes(body)
        with contextlib.suppress(InvalidInput):
            DIALECTS[name].peek(raw, model=None, stream=None, max_depth=64)
        try:
            request = DIALECTS[name].read_request(raw, model=None, stream=None)
        except InvalidInput:
            continue
        for target in NAMES:
            try:
                DIALECTS[target].write_request(request, model="m", quirks=frozenset())
            except InvalidInput:
                continue


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, times=st.integers(1, 3))
def test_a_spoilt_reply_is_read_or_refused(name: DialectName, seed: int, times: int) -> None:
    pick = random.Random(seed)
    for body in goldens(name, "reply"):
        for _ in range(times):
            body = spoil(body, pick)  # noqa: PLW2901
        raw = as_bytes(body)
        with contextlib.suppress(ValueError):
            DIALECTS[name].read_usage(raw)
        DIALECTS[name].read_error(500, raw)
        try:
            reply = DIALECTS[name].read_reply(raw)
        except ValueError:
            continue
        write_everywhere(reply)


def write_everywhere(reply: HubReply) -> None:
    for client in NAMES:
        asked = HubRequest(source=client, model="asked", messages=[])
        DIALECTS[client].write_reply(reply, model="asked", request=asked)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, times=st.integers(1, 3))
def test_a_spoilt_stream_is_told_in_order(name: DialectName, seed: int, times: int) -> None:
    pick = random.Random(seed)
    for path in sorted((GOLDEN / name).glob("stream*.sse")):
        pieces = path.read_bytes().split(b"\n\n")
        for _ in range(times):
            place = pick.randrange(len(pieces))
            pieces[place] = spoil_event(pieces[place], pick)
        stream = b"\n\n".join(pieces)
        events = read_stream(DIALECTS[name], stream, cuts=[pick.randrange(len(stream))])
        for client in NAMES:
            asked = HubRequest(source=client, model="asked", messages=[])
            read_stream(DIALECTS[client], write_stream(DIALECTS[client], events, asked))
        scanner = DIALECTS[name].scanner()
        scanner.feed(stream)
        scanner.usage(), scanner.model(), scanner.error(), scanner.is_finished()


def spoil_event(event: bytes, pick: random.Random) -> bytes:
    head, found, data = event.partition(b"data: ")
    try:
        value = json.loads(data)
    except ValueError:
        return event
    return head + found + as_bytes(spoil(value, pick)) if pick.random() < 0.9 else b""
