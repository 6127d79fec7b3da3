"""What may go wrong when files are left at the gateway: too large, too slow, too many, no disk, a client that leaves."""

import asyncio
import errno
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from penstock.gateway.files import Files
from penstock.spec.snapshot import Limits
from penstock.store.files import FileStore, Upload
from tests.gateway.conftest import KEY, Bench, until_ready


@pytest.fixture
async def place(bench: Bench) -> Bench:
    """A gateway that takes files of 1,000 bytes and 2,500 bytes in all."""
    bench.write(limits=Limits(max_file_bytes=1000, max_project_file_bytes=2500))
    await until_ready(bench)
    use_files(bench)
    return bench


def use_files(bench: Bench, **more: Any) -> None:
    assert bench.gateway is not None
    bench.gateway._files = Files(FileStore(bench.folder / "files"), **more)


def left(bench: Bench) -> list[Path]:
    return [path for path in (bench.folder / "files").rglob("*") if path.is_file()]


async def leave(bench: Bench, data: bytes, *, is_chunked: bool = False) -> tuple[int, Any]:
    form = aiohttp.FormData()
    form.add_field("purpose", "user_data")
    form.add_field("file", data, filename="a.bin")
    body = form()
    assert bench.client is not None
    headers = {"authorization": f"Bearer {KEY}", "content-type": body.headers["content-type"]}
    sent: Any = body
    if is_chunked:
        whole = b"".join([piece async for piece in pieces_of(body)])
        sent = stream(whole)
    async with bench.client.post(bench.url + "/v1/files", data=sent, headers=headers) as response:
        return response.status, await response.json()


async def pieces_of(body: Any) -> Any:
    class Writer:
        def __init__(self) -> None:
            self.data = b""

        async def write(self, piece: bytes) -> None:
            self.data += piece

    writer = Writer()
    await body.write(writer)
    yield writer.data


async def stream(whole: bytes) -> Any:
    for at in range(0, len(whole), 100):
        yield whole[at : at + 100]


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_file_over_the_limit_is_refused_and_leaves_nothing(place: Bench, is_chunked: bool) -> None:
    status, reply = await leave(place, b"x" * 1001, is_chunked=is_chunked)
    assert (status, "PS-1626" in reply["error"]["message"]) == (413, True)
    assert left(place) == []
    assert (await leave(place, b"x" * 1000, is_chunked=is_chunked))[0] == 200


async def test_a_project_has_only_so_much_room(place: Bench) -> None:
    statuses = [(await leave(place, b"x" * 900))[0] for _ in range(3)]
    assert statuses == [200, 200, 413]
    assert len(left(place)) == 4


async def test_files_that_come_at_once_do_not_share_the_same_room(place: Bench) -> None:
    replies = await asyncio.gather(*(leave(place, b"x" * 900) for _ in range(6)))
    kept = [status for status, _ in replies if status == 200]
    assert len(kept) <= 2
    assert len(left(place)) == 2 * len(kept)


async def test_a_project_has_only_so_many_files(place: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.gateway.files.MAX_RECORDS", 2)
    statuses = [(await leave(place, b"x"))[0] for _ in range(3)]
    assert statuses == [200, 200, 413]


async def test_a_disk_that_is_full_is_told_and_nothing_is_left(
    place: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Upload, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Upload, "write", refuse)
    status, reply = await leave(place, b"x")
    assert (status, "PS-4626" in reply["error"]["message"]) == (503, True)
    assert left(place) == []


async def test_a_body_that_does_not_come_ends_with_a_timeout(place: Bench) -> None:
    use_files(place, wait_s=0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(place.url.rpartition(":")[2]))
    writer.write(head("content-length: 300"))
    answer = await reader.read(4000)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 408")
    assert left(place) == []


async def test_a_client_that_leaves_in_the_middle_leaves_nothing(place: Bench) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", int(place.url.rpartition(":")[2]))
    writer.write(head("content-length: 900") + PART)
    while not left(place):
        await asyncio.sleep(0.002)
    writer.close()
    while left(place):
        await asyncio.sleep(0.002)


PART = b'--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\nhalf'


def head(line: str) -> bytes:
    return (
        f"POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n"
        f"content-type: multipart/form-data; boundary=b\r\n{line}\r\n\r\n"
    ).encode()


async def test_odd_bodies_and_methods_are_refused(place: Bench) -> None:
    assert (await place.post({"purpose": "batch"}, "/v1/files")).status == 400
    assert (await place.post({}, "/v1/batches")).status == 400
    assert (await place.post({}, "/v1/files/file-x")).status == 405
    assert (await place.post({}, "/v1/files/file-x/content")).status == 405
    assert (await place.post({}, "/v1/batches/batch_x/cancel")).status == 404
    assert (await place.post({"metadata": "x" * 70_000}, "/v1/batches")).status == 413
    assert (await place.post({}, "/v1/files", key="ps-wrong")).status == 401
