"""Forms that arrive in pieces: any split of the bytes gives the same fields and the same file."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.gateway.errors import WrongForm
from penstock.gateway.uploads import FormReader

BOUNDARY = b"--xyz"


def form(*parts: tuple[bytes, bytes], end: bytes = b"--\r\n") -> bytes:
    pieces = [b"--xyz\r\ncontent-disposition: form-data; %b\r\n\r\n%b\r\n" % part for part in parts]
    return b"".join(pieces) + b"--xyz" + end


def read(body: bytes, cuts: list[int]) -> tuple[FormReader, bytes]:
    reader = FormReader(BOUNDARY)
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    content = b"".join(reader.feed(body[a:b]) for a, b in pairwise(edges))
    reader.finish()
    return reader, content


CONTENT = st.one_of(
    st.binary(max_size=60),
    st.lists(st.sampled_from([b"\r\n", b"--", b"--xy", b"\r\n--x", b"\r", b"z"]), max_size=12).map(b"".join),
).filter(lambda data: b"\r\n--xyz" not in b"\r\n" + data)


@settings(max_examples=150, deadline=None)
@given(CONTENT, st.booleans(), st.lists(st.integers(0, 400), max_size=10))
def test_any_split_gives_the_same_form(content: bytes, is_first: bool, cuts: list[int]) -> None:
    parts = [(b'name="purpose"', b"batch"), (b'name="file"; filename="\xc3\xa4.jsonl"', content)]
    reader, got = read(form(*(reversed(parts) if is_first else parts)), cuts)
    assert got == content
    assert reader.fields == {"purpose": "batch"}
    assert reader.filename == "ä.jsonl"


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
def test_garbage_is_refused_and_nothing_else(data: bytes, cuts: list[int]) -> None:
    with pytest.raises(WrongForm):
        read(b"x" + data.replace(b"--", b"-"), cuts)


FILE = b'name="file"; filename="a"'


@pytest.mark.parametrize(
    "body",
    [
        form((FILE, b"1"), (FILE, b"2")),
        form((b'name="picture"; filename="a"', b"1")),
        form((b'name="purpose"', b"batch"), (b'name="purpose"', b"vision")),
        form((b'name="purpose"', b"x" * 9000)),
        form((FILE, b"1"), end=b""),
        form(*((b'name="f%d"' % n, b"1") for n in range(40))),
        b"--xyz\r\n" + b"h" * 9000,
        b"--xyz" + b" " * 300,
    ],
)
def test_forms_that_are_odd_are_refused(body: bytes) -> None:
    with pytest.raises(WrongForm):
        read(body, [])
