"""Repositories of a hub, played by a server on loopback."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from penstock.base.errors import InvalidInput, UpstreamUnavailable
from penstock.datasets.errors import UnreadableSource
from penstock.datasets.hub import HubAccess, fetch_repository

ROWS = b'{"question": "q", "answer": "a"}\n'
COMMIT = "c0ffee" * 6 + "c0ff"


class _Hub(BaseHTTPRequestHandler):
    siblings: ClassVar[list[dict[str, Any]]] = []
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(f"{self.path} {self.headers.get('authorization')}")
        if self.path.startswith("/api/datasets/org/rows/revision/"):
            self._answer(200, json.dumps({"sha": COMMIT, "siblings": self.siblings}).encode())
        elif self.path == f"/datasets/org/rows/resolve/{COMMIT}/data/train.jsonl":
            self._answer(200, ROWS)
        else:
            self._answer(404, b"no")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""


@pytest.fixture
def hub() -> Iterator[HubAccess]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    _Hub.asked = []
    _Hub.siblings = [
        {"rfilename": "README.md", "size": 3},
        {"rfilename": "../../escape.jsonl", "size": 3},
        {"rfilename": "extra.csv", "size": 3},
        {
            "rfilename": "data/train.jsonl",
            "size": len(ROWS),
            "lfs": {"sha256": hashlib.sha256(ROWS).hexdigest()},
        },
    ]
    yield HubAccess(endpoint=f"http://127.0.0.1:{server.server_port}", token="hub-token")
    server.shutdown()
    server.server_close()


def test_a_repository_is_pinned_to_its_commit_and_fetched(hub: HubAccess, tmp_path: Path) -> None:
    assert fetch_repository("org/rows@v1", tmp_path, hub) == f"org/rows@{COMMIT}"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["train.jsonl"]
    assert _Hub.asked[0] == "/api/datasets/org/rows/revision/v1?blobs=true Bearer hub-token"


def test_what_is_not_as_the_hub_says_is_refused(hub: HubAccess, tmp_path: Path) -> None:
    _Hub.siblings[-1]["lfs"]["sha256"] = "0" * 64
    with pytest.raises(UpstreamUnavailable, match="not what the hub says"):
        fetch_repository("org/rows", tmp_path, hub)
    _Hub.siblings[-1] = {"rfilename": "data/train.jsonl", "size": 1}
    with pytest.raises(UpstreamUnavailable, match="in part only"):
        fetch_repository("org/rows", tmp_path, hub)


def test_repositories_without_rows_or_name_are_refused(hub: HubAccess, tmp_path: Path) -> None:
    _Hub.siblings = [{"rfilename": "script.py"}]
    with pytest.raises(UnreadableSource, match="holds no Parquet"):
        fetch_repository("org/rows", tmp_path, hub)
    with pytest.raises(UnreadableSource, match="no data set"):
        fetch_repository("org/other", tmp_path, hub)
    with pytest.raises(InvalidInput):
        fetch_repository("../rows", tmp_path, hub)
    with pytest.raises(UpstreamUnavailable):
        fetch_repository("org/rows", tmp_path, HubAccess(endpoint="http://127.0.0.1:9"))
    with pytest.raises(InvalidInput, match="https"):
        fetch_repository("org/rows", tmp_path, HubAccess(endpoint="file:///etc"))
