"""Nothing a program hands over makes the SDK raise, run its code, or hold more than it may."""

import dataclasses
import datetime as dt
import decimal
import enum
import json
import subprocess
import sys
import uuid
from collections import namedtuple
from collections.abc import Iterator
from typing import Any

import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import penstock
from penstock.sdk.delivery import Delivery
from penstock.sdk.payloads import BLACKED, black_out, copy_payload, encode_payload
from penstock.sdk.propagation import headers, inject
from penstock.spec.usage import Usage
from tests.sdk.conftest import Collector, setup, switch_off

WIDE = 10**6


class Hostile:
    """Fails whatever is done with it."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("do not touch")

    def __repr__(self) -> str:
        raise RuntimeError("do not print")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("do not compare")

    def __hash__(self) -> int:
        return 1


class HostileDict(dict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError("no items")


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_objects_that_fail_at_every_touch_are_passed_through(sdk: Collector) -> None:
    @penstock.observe(name="hostile")
    def same(value: Any, **more: Any) -> Any:
        return value

    hostile = Hostile()
    assert same(hostile) is hostile
    assert same(HostileDict(a=1)) == {"a": 1}
    assert same({hostile: hostile}, b=[hostile]) is not None
    with penstock.span("x", input=hostile, metadata={"h": hostile}, model=hostile, usage=hostile) as it:
        it.update(tags=5, usage={"input": "many"}, cost_usd="dear")  # type: ignore[arg-type,dict-item]
        it.event("e", value=hostile)
        it.set("h", hostile)
        penstock.score("s", "high", evidence=hostile)  # type: ignore[arg-type]
    assert penstock.flush().failed == 0
    assert "hostile" in {span.name for span in sdk.spans}
    assert "x" in {span.name for span in sdk.spans}


def test_a_misspelt_name_is_refused_whether_anything_is_recorded_or_not(collector: Collector) -> None:
    with pytest.raises(TypeError, match="ouput"):
        penstock.span("x", ouput=1)  # type: ignore[call-arg]
    setup(collector)
    with penstock.span("x") as it:
        pass
    switch_off()
    for place in (it, penstock.current_span()):
        with pytest.raises(TypeError):
            place.update(ouput=1)  # type: ignore[call-arg]


def test_an_exception_without_text_goes_on_as_it_is(sdk: Collector) -> None:
    with pytest.raises(UnprintableError), penstock.span("x"):
        raise UnprintableError
    assert penstock.flush().sent == 1
    assert sdk.span("x").failed


def test_a_list_that_grows_later_was_captured_as_it_was(sdk: Collector) -> None:
    messages = [{"role": "user", "content": "hi"}]

    @penstock.observe(name="turn")
    def turn(messages: list[dict[str, str]]) -> list[dict[str, str]]:
        messages.append({"role": "assistant", "content": "ho"})
        return messages

    answer = turn(messages)
    answer.clear()
    penstock.flush()
    assert len(sdk.span("turn").input["messages"]) == 1
    assert len(sdk.span("turn").output) == 2


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    hidden: str = dataclasses.field(default="s", repr=False)


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    name: str


Pair = namedtuple("Pair", "left right")


def test_records_are_copied_by_their_fields() -> None:
    stamp = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    value = {
        "enum": Colour.RED,
        "data": Point(1),
        "model": Model(name="m", extra=[Point(2)]),
        "struct": Usage(input_uncached=3),
        "pair": Pair(1, "r"),
        "bytes": b"abc",
        "time": stamp,
        "money": decimal.Decimal("1.50"),
        "id": uuid.UUID(int=7),
        "set": {5},
        3: "three",
        "type": object(),
        "error": ValueError("bad"),
    }
    copied, size = copy_payload(value, WIDE)
    assert size > 0
    assert json.loads(encode_payload(copied)[0]) == {
        "enum": "red",
        "data": {"x": 1},
        "model": {"name": "m", "extra": [{"x": 2}]},
        "struct": {**dict.fromkeys(Usage.__struct_fields__), "input_uncached": 3, "estimated": False},
        "pair": {"left": 1, "right": "r"},
        "bytes": "<3 bytes>",
        "time": str(stamp),
        "money": "1.50",
        "id": str(uuid.UUID(int=7)),
        "set": [5],
        "3": "three",
        "type": "<builtins.object>",
        "error": "ValueError: bad",
    }


def test_a_cycle_ends() -> None:
    cycle: list[Any] = [1]
    cycle += [cycle, cycle, {"again": cycle}]
    copied, size = copy_payload(cycle, 50_000)
    assert size < 60_000
    assert len(encode_payload(copied)[0]) < 60_000


json_like = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=30)
    | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=5)
    ),
    max_leaves=30,
)


@settings(deadline=None, max_examples=60)
@given(value=json_like, max_bytes=st.integers(1, 2000))
def test_whatever_is_captured_is_json_within_its_bound(value: Any, max_bytes: int) -> None:
    copied, size = copy_payload(value, max_bytes)
    text, mime = encode_payload(copied)
    text.encode()
    if mime == "application/json":
        msgspec.json.decode(text)
    assert size <= max_bytes + 32 * 8  # the nodes that it took to find out


@settings(deadline=None, max_examples=60)
@given(value=json_like)
def test_what_fits_is_captured_whole(value: Any) -> None:
    copied, _ = copy_payload(value, WIDE)
    assert copy_payload(copied, WIDE)[0] == copied or "nan" in repr(copied)


@settings(deadline=None, max_examples=60)
@given(value=json_like)
def test_names_that_are_blacked_out_are_nowhere(value: Any) -> None:
    copied, _ = copy_payload({"a": value, "secret": "hush", "b": [{"secret": {"deep": "hush"}}]}, WIDE)
    cleaned = black_out(copied, [["secret"]])
    assert cleaned["secret"] == BLACKED
    assert cleaned["b"] == [{"secret": BLACKED}]


def test_headers_name_the_current_span_session_and_user(sdk: Collector) -> None:
    assert headers() == {}
    with penstock.attributes(session_id="s1", user_id="Zoë\n"), penstock.span("x") as it:
        found = headers()
        assert found["traceparent"] == f"00-{it.trace_id}-{it.span_id}-01"
        assert (found["x-penstock-session"], found["x-penstock-user"]) == ("s1", "Zo%C3%AB%0A")
        given: dict[str, str] = {"traceparent": "mine"}
        inject(given)
        assert given["traceparent"] == "mine"
        inject(None)
        inject(Hostile())


def test_importing_penstock_loads_nothing_of_the_sdk_until_a_name_is_used() -> None:
    code = """
import sys, penstock
assert not [name for name in sys.modules if name.startswith(("penstock.", "opentelemetry"))], sys.modules
assert "observe" in dir(penstock)
penstock.observe
assert "penstock.sdk.observe" in sys.modules
heavy = {"fastapi", "duckdb", "sqlalchemy", "numpy", "aiohttp", "google.protobuf", "pydantic"} & set(sys.modules)
assert not heavy, heavy
import threading
assert threading.active_count() == 1
try:
    penstock.nothing
except AttributeError:
    pass
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_there() -> None:
    for name in penstock.__all__:
        assert getattr(penstock, name) is not None


def test_a_class_is_refused_where_it_is_decorated() -> None:
    with pytest.raises(TypeError, match="methods of Point"):
        penstock.observe(Point)


def test_a_long_stream_of_objects_is_kept_within_the_bound_of_one_payload(collector: Collector) -> None:
    setup(collector, max_payload_bytes=2000)

    @penstock.observe(name="chunks")
    def chunks() -> Iterator[dict[str, str]]:
        for _ in range(500):
            yield {"text": "x" * 50}

    assert len(list(chunks())) == 500
    assert penstock.flush().is_complete
    span = collector.span("chunks")
    assert span.attributes["stream.items"] == 500
    assert 1 < len(span.output) < 50
    assert span.output[0] == {"text": "x" * 50}
    switch_off()


def test_what_is_said_after_the_end_changes_nothing(sdk: Collector, caplog: pytest.LogCaptureFixture) -> None:
    with penstock.span("x") as it:
        pass
    it.update(name="late", output=1, error="late")
    it.event("late")
    it.fail(ValueError("late"))
    it.end()
    assert penstock.flush().sent == 1
    assert "late" not in str(sdk.requests)
    assert caplog.text == ""


def test_a_trace_that_is_not_recorded_is_not_judged(collector: Collector) -> None:
    setup(collector, sample=0.0)
    with penstock.span("x"):
        penstock.score("ok", 1)
    assert penstock.flush() == Delivery()
    switch_off()
