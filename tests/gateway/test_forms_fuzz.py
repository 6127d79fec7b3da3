"""Forms of any shape: what is read is what stands there, only the model's bytes change, and one reading is all there is."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.gateway.errors import WrongForm
from penstock.gateway.multipart import peek_form, replace_form_model

TYPE = b"multipart/form-data; boundary=b0undary"
VALUES = st.binary(max_size=40).filter(lambda value: b"b0undary" not in value)
NAMES = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8).filter(
    lambda name: name != "model"
)


def form(parts: list[tuple[str, bytes]]) -> bytes:
    lines = [
        b"--b0undary\r\ncontent-disposition: form-data; %b\r\n\r\n%b\r\n" % (head.encode(), value)
        for head, value in parts
    ]
    return b"".join(lines) + b"--b0undary--\r\n"


@settings(max_examples=100, deadline=None)
@given(
    before=st.lists(st.tuples(NAMES, VALUES), max_size=4),
    after=st.lists(st.tuples(NAMES, VALUES), max_size=4),
    file=VALUES,
)
def test_only_the_model_changes(
    before: list[tuple[str, bytes]], after: list[tuple[str, bytes]], file: bytes
) -> None:
    def whole(model: bytes) -> bytes:
        parts = [(f'name="{name}"', value) for name, value in before]
        parts += [('name="file"; filename="model"', file), ('name="model"', model)]
        return form(parts + [(f'name="{name}"', value) for name, value in after])

    assert peek_form(whole(b"whisper"), TYPE).model == "whisper"
    assert replace_form_model(whole(b"whisper"), TYPE, "other") == whole(b"other")


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 300), st.sampled_from([b"\r", b"\n", b"-", b'"', b";", b"", b"\xff", b"\r\n\r\n"])), max_size=6)
)  # fmt: skip
def test_a_damaged_form_is_read_or_refused(damage: list[tuple[int, bytes]]) -> None:
    body = form([('name="a"', b"1"), ('name="model"', b"m"), ('name="file"; filename="f.wav"', b"RIFF")])
    for number, other in damage:
        place = number % len(body)
        body = body[:place] + other + body[place + 1 :]
    with contextlib.suppress(WrongForm):
        peek_form(body, TYPE)


@pytest.mark.parametrize(
    "head",
    [
        'name="a"; name="model"',
        'name="model"; name="a"',
        "name=\"a\"; name*=utf-8''model",
        'name="a"\r\ncontent-disposition: form-data; name="model"',
    ],
)
def test_a_part_with_two_names_is_refused(head: str) -> None:
    """The provider might read the other one, and serve a model that was never asked for here."""
    with pytest.raises(WrongForm):
        peek_form(form([('name="model"', b"cheap"), (head, b"dear")]), TYPE)


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize(
    ("head", "value"),
    [
        ('name="model"', b"dear"),
        ('name="model"; filename="x"', b"dear"),
        ('name="model"', b"dear" + b" " * 1100),
        ("name=model ", b"dear"),
        ("name='model'", b"dear"),
        ('name="mod\\el"', b"dear"),
        ('\r\n name="model"', b"dear"),
        ("name*=utf-8''model", b"dear"),
    ],
)
def test_a_second_model_is_refused_in_whatever_shape(head: str, value: bytes, is_first: bool) -> None:
    """All parts are sent on, and the provider might take this one."""
    parts = [('name="model"', b"cheap"), (head, value)]
    with pytest.raises(WrongForm):
        peek_form(form(parts[::-1] if is_first else parts), TYPE)
