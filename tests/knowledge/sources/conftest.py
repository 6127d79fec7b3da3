"""What tests of sources share: a service over SQLite, blobs in a dictionary, a folder of documents."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine

from penstock.base.digest import digest_bytes
from penstock.knowledge.sources.service import SourceService

LONG_AGO = 1_700_000_000


class CountingBlobs:
    """Blobs in a dictionary, and how often one was put."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.n_puts = 0

    def put_bytes(self, data: bytes, /) -> str:
        self.n_puts += 1
        digest = digest_bytes(data)
        self.kept[digest] = data
        return digest

    def get(self, digest: str, /) -> bytes:
        return self.kept[digest]


class TickingClock:
    """Starts long after every file of a test was written, so that their times are settled."""

    def __init__(self) -> None:
        self.now_ns = 4_000_000_000 * 1_000_000_000

    def __call__(self) -> int:
        self.now_ns += 1_000_000
        return self.now_ns

    def pass_s(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1_000_000_000)


@pytest.fixture
def blobs() -> CountingBlobs:
    return CountingBlobs()


@pytest.fixture
def clock() -> TickingClock:
    return TickingClock()


@pytest.fixture
def sources(sqlite_engine: Engine, blobs: CountingBlobs, clock: TickingClock) -> SourceService:
    return SourceService(sqlite_engine, blobs, _vault, clock=clock)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a file below `docs`, as if long ago."""

    def put(path: str, text: str | bytes = "Some text.", at: int = LONG_AGO) -> Path:
        place = tmp_path / "docs" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(text if isinstance(text, bytes) else text.encode())
        os.utime(place, (at, at))
        return place

    return put


def _vault(name: str, address: str) -> str:
    return f"opened-{name}-for-{address}"
