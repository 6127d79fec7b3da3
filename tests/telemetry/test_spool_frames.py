"""Records survive torn tails and corrupt bytes: what is intact is read, nothing false is ever read."""

import random

from hypothesis import given
from hypothesis import strategies as st

from penstock.telemetry.frames import MAGIC, encode_frame, scan_frames

payload_lists = st.lists(st.binary(min_size=1, max_size=200), max_size=12)


def segment_of(payloads: list[bytes]) -> bytes:
    return MAGIC + b"".join(map(encode_frame, payloads))


def read_all(data: bytes, *, is_final: bool = True) -> list[bytes]:
    scan = scan_frames(data, base=0, is_final=is_final, skip_damage=False, max_bytes=1 << 30)
    return [frame.payload for frame in scan.frames]


@given(payload_lists)
def test_what_was_written_is_read_in_order(payloads: list[bytes]) -> None:
    assert read_all(segment_of(payloads)) == payloads


@given(payload_lists, st.data())
def test_a_torn_tail_loses_only_the_torn_record(payloads: list[bytes], data: st.DataObject) -> None:
    whole = segment_of(payloads)
    cut = data.draw(st.integers(0, len(whole)))
    ends = [len(segment_of(payloads[:count])) for count in range(1, len(payloads) + 1)]
    intact = sum(end <= cut for end in ends)
    assert read_all(whole[:cut]) == payloads[:intact]


@given(payload_lists, st.data())
def test_a_growing_segment_is_read_in_pieces_without_loss_or_repetition(
    payloads: list[bytes], data: st.DataObject
) -> None:
    whole = segment_of(payloads)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=5)))
    found: list[bytes] = []
    offset = 0
    for cut in [*cuts, len(whole)]:
        scan = scan_frames(
            whole[offset:cut], base=offset, is_final=False, skip_damage=False, max_bytes=1 << 30
        )
        found += [frame.payload for frame in scan.frames]
        offset = scan.next_offset
        assert not scan.is_suspect
    assert found == payloads


@given(payload_lists, st.integers(0, 2**32), st.integers(1, 4))
def test_corrupt_bytes_cost_only_the_records_they_hit(payloads: list[bytes], seed: int, n_hits: int) -> None:
    whole = bytearray(segment_of(payloads))
    source = random.Random(seed)
    hits = [source.randrange(len(whole)) for _ in range(n_hits)]
    for hit in hits:
        whole[hit] ^= source.randrange(1, 256)
    starts = [len(segment_of(payloads[:count])) for count in range(len(payloads) + 1)]
    untouched = [
        payload
        for payload, start, end in zip(payloads, starts[:-1], starts[1:], strict=True)
        if not any(start <= hit < end for hit in hits)
    ]
    found = read_all(bytes(whole))
    position = iter(found)
    assert all(payload in position for payload in untouched), "an untouched record was lost or moved"
    # Two hits on one byte may undo each other, so touched records may be found too, but only true ones.
    assert all(payload in payloads for payload in found)


@given(st.binary(max_size=2000))
def test_arbitrary_bytes_never_read_as_a_record_without_its_checksum(noise: bytes) -> None:
    for payload in read_all(noise):
        assert encode_frame(payload) in noise


def test_a_tail_of_zeros_holds_no_records() -> None:
    assert read_all(segment_of([b"one"]) + bytes(4096)) == [b"one"]


def test_a_living_segment_is_not_skipped_at_the_first_wrong_checksum() -> None:
    damaged = bytearray(segment_of([b"one", b"two", b"three"]))
    damaged[len(segment_of([b"one"])) + 9] ^= 1
    first = scan_frames(bytes(damaged), base=0, is_final=False, skip_damage=False, max_bytes=1 << 30)
    assert ([frame.payload for frame in first.frames], first.is_suspect) == ([b"one"], True)
    again = scan_frames(
        bytes(damaged[first.next_offset :]),
        base=first.next_offset,
        is_final=False,
        skip_damage=True,
        max_bytes=1 << 30,
    )
    assert [frame.payload for frame in again.frames] == [b"three"]
    assert again.skipped_bytes > 0
