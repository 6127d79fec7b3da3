"""Golden texts with some of their bytes changed, in pieces of any size: what a bad line or a bad provider makes of them."""

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.base.errors import InvalidInput
from penstock.dialects.registry import DIALECTS
from penstock.spec.routes import DialectName
from tests.dialects.stream_checks import read_stream
from tests.fixtures.upstreams.server import STREAMS

GOLDEN = Path(__file__).parent / "golden"
NAMES: list[DialectName] = list(DIALECTS)
DAMAGE = st.lists(
    st.tuples(st.integers(0, 1 << 16), st.sampled_from([b"\xff", b"\xc3", b"\xed\xa0\x80", b"\0", b'"', b"\\", b"\n", b"\r", b"{", b""])),
    min_size=1,
    max_size=6,
)  # fmt: skip
CUTS = st.lists(st.integers(0, 4000), max_size=8)


def damaged(text: bytes, damage: list[tuple[int, bytes]]) -> bytes:
    """Return `text` with single bytes replaced by others."""
    for number, other in damage:
        place = number % max(1, len(text))
        text = text[:place] + other + text[place + 1 :]
    return text


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(damage=DAMAGE, cuts=CUTS)
def test_a_damaged_stream_is_told_in_order_and_never_raises(
    name: DialectName, damage: list[tuple[int, bytes]], cuts: list[int]
) -> None:
    dialect = DIALECTS[name]
    stream = damaged(b"".join(STREAMS[name](tools=False)), damage)
    read_stream(dialect, stream, cuts)
    scanner = dialect.scanner()
    start = 0
    for end in [*sorted(cuts), len(stream)]:
        scanner.feed(stream[start:end])
        start = max(start, end)
        scanner.error()
        scanner.is_finished()
    scanner.usage()
    scanner.model()


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(damage=DAMAGE)
def test_a_damaged_reply_is_read_or_is_a_value_error(
    name: DialectName, damage: list[tuple[int, bytes]]
) -> None:
    dialect = DIALECTS[name]
    body = damaged(json.dumps(json.loads((GOLDEN / name / "reply.json").read_bytes())).encode(), damage)
    for read in (dialect.read_usage, dialect.read_reply):
        with contextlib.suppress(ValueError):
            read(body)
    for status in (200, 400, 500):
        dialect.read_error(status, body)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(damage=DAMAGE)
def test_a_damaged_request_is_read_or_refused(name: DialectName, damage: list[tuple[int, bytes]]) -> None:
    dialect = DIALECTS[name]
    body = damaged((GOLDEN / name / "request.json").read_bytes(), damage)
    with contextlib.suppress(InvalidInput):
        dialect.read_request(body, model="m", stream=False)


@pytest.mark.parametrize("name", NAMES)
def test_a_text_that_is_no_utf8_breaks_a_stream_and_nothing_else(name: DialectName) -> None:
    dialect = DIALECTS[name]
    stream = b"".join(STREAMS[name](tools=False)).replace(b"Drink", b"Dr\xff\xfek")
    read_stream(dialect, stream)
    dialect.scanner().feed(stream)
