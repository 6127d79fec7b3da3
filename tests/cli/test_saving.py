"""What a command writes to a file is there whole, or not at all."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.base.errors import InvalidInput, UpstreamError
from penstock.cli.saving import print_pieces, save_pieces


def broken() -> Iterator[bytes]:
    yield b"half of "
    raise UpstreamError("the connection is gone")


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "calls.jsonl"
    assert save_pieces([b"one\n", b"two\n"], out) == 8
    assert out.read_bytes() == b"one\ntwo\n"
    assert list(tmp_path.iterdir()) == [out]


def test_what_breaks_off_leaves_the_file_of_before(tmp_path: Path) -> None:
    out = tmp_path / "calls.jsonl"
    out.write_bytes(b"of yesterday")
    with pytest.raises(UpstreamError):
        save_pieces(broken(), out)
    assert out.read_bytes() == b"of yesterday"
    assert list(tmp_path.iterdir()) == [out]


def test_a_place_that_cannot_be_written_is_the_callers_mistake(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be written"):
        save_pieces([b"x"], tmp_path / "no" / "calls.jsonl")


def test_pieces_go_to_standard_output_as_they_are(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert print_pieces([b"\xff", b"\x00\n"]) == 3
    assert capfdbinary.readouterr().out == b"\xff\x00\n"
