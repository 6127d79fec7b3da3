"""A command in another shell goes by the environment that the running instance serves in; testing a provider asks it."""

import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from penstock.base.errors import InvalidInput, UpstreamUnavailable
from penstock.deploy.snapshots import read_snapshot
from penstock.main import provider_check
from penstock.main.home_files import create_home
from penstock.main.instance import Addresses, InstanceState, own_home
from penstock.main.provider_check import check_provider
from penstock.main.rooms import Rooms
from penstock.main.serving_environment import note_environment, serving_environment
from penstock.spec.home import Home

SERVING = {"OPENAI_API_KEY": "sk-secret", "OLLAMA_HOST": "box:1234", "PATH": "/usr/bin", "EMPTY": " "}


@pytest.fixture
def ready_home(home: Home, migrated_sqlite: Path) -> Home:
    create_home(home)
    shutil.copy(migrated_sqlite, home.control_db)
    return home


def test_a_key_made_in_another_shell_does_not_take_providers_away(ready_home: Home) -> None:
    with own_home(ready_home):
        note_environment(ready_home, SERVING)
        Rooms(ready_home, environ=SERVING).publish_snapshot()
        bare = Rooms(ready_home, environ={}, keeps_running=True)
        bare.keys.create("ci")
        bare.publish_snapshot()
        found = {row.name: row.base_url for row in read_snapshot(ready_home.snapshot).providers}
    assert found["ollama"] == "http://box:1234/v1"
    assert "openai" in found
    bare.publish_snapshot()  # nothing runs any more, so this shell counts
    assert "openai" not in {row.name for row in read_snapshot(ready_home.snapshot).providers}


def test_no_value_of_a_key_is_noted(ready_home: Home) -> None:
    note_environment(ready_home, SERVING)
    file = ready_home.run / "environment.json"
    assert "sk-secret" not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    with own_home(ready_home):
        assert serving_environment(ready_home, {}) == {
            "OPENAI_API_KEY": "(set)",
            "OLLAMA_HOST": "box:1234",
            "PATH": "(set)",
        }
        file.write_text("[]")
        assert serving_environment(ready_home, {"A": "1"}) == {"A": "1"}


class Gateway(http.server.BaseHTTPRequestHandler):
    """Answers as told, and remembers what it was asked."""

    status = 200
    asked: ClassVar[list[tuple[str, Any]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.asked.append((self.path, body))
        text = b"{}" if self.status == 200 else b'{"error": {"message": "the key is wrong"}}'
        self.send_response(self.status)
        self.send_header("content-length", str(len(text)))
        self.send_header("x-penstock-trace-id", "ab" * 16)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def gateway(ready_home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Gateway]]:
    ready_home.admin_key.write_text("ps-admin\n")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    state = InstanceState(
        pid=1,
        started_ns=0,
        status="ready",
        addresses=Addresses(gateway_port=server.server_address[1]),
        workers=1,
        version="",
    )
    monkeypatch.setattr(provider_check, "require_instance", lambda _: state)
    Gateway.status, Gateway.asked = 200, []
    yield Gateway
    server.shutdown()
    server.server_close()


def test_a_provider_is_asked_for_one_token(ready_home: Home, gateway: type[Gateway]) -> None:
    rooms = Rooms(ready_home, environ={"OPENAI_API_KEY": "x"})
    with pytest.raises(InvalidInput, match="--model"):
        check_provider(rooms, "openai")
    content = {"targets": [{"provider": "openai", "model": "gpt-4o-mini"}]}
    vectors = {"kind": "embedding", "targets": [{"provider": "openai", "model": "small"}]}
    rooms.configuration.put("route", "early", vectors, actor="ada")
    with pytest.raises(InvalidInput, match="--model"):
        check_provider(rooms, "openai")
    rooms.configuration.put("route", "fast", content, actor="ada")
    report = check_provider(rooms, "openai")
    assert report["route"] == "fast"
    assert (report["ok"], report["model"], report["trace"]) == (True, "openai/gpt-4o-mini", "ab" * 16)
    check_provider(rooms, "openai", model="small", is_embedding=True)
    (first, second) = gateway.asked
    assert (first[0], first[1]["model"], first[1]["max_tokens"]) == (
        "/v1/chat/completions",
        "openai/gpt-4o-mini",
        1,
    )
    assert second == ("/v1/embeddings", {"model": "openai/small", "input": "ping"})
    gateway.status = 401
    report = check_provider(rooms, "openai")
    assert (report["ok"], report["status"], report["error"]) == (False, 401, "the key is wrong")


def test_a_gateway_that_is_gone_is_said(ready_home: Home, gateway: type[Gateway], monkeypatch: Any) -> None:
    state = provider_check.require_instance(ready_home)
    gone = InstanceState(
        pid=1,
        started_ns=0,
        status="ready",
        addresses=Addresses(gateway_port=1),
        workers=1,
        version=state.version,
    )
    monkeypatch.setattr(provider_check, "require_instance", lambda _: gone)
    with pytest.raises(UpstreamUnavailable):
        check_provider(Rooms(ready_home, environ={"OPENAI_API_KEY": "x"}), "openai", model="m")
