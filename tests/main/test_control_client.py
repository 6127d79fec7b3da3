"""Errors of the control process reach whoever asked as what they are."""

import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest

from penstock.base.errors import NotFound, PenstockError
from penstock.main import control_client
from penstock.spec.home import Home


class Refusing(BaseHTTPRequestHandler):
    def do_GET(self) -> None:  # the base class names it
        body = json.dumps({"error": {"code": "PS-1954", "message": "There is no trace.", "hint": "Wait."}})
        self.send_response(404)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_what_is_not_there_yet_can_be_told_from_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server = HTTPServer(("127.0.0.1", 0), Refusing)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    running = SimpleNamespace(addresses=SimpleNamespace(console_url=f"http://127.0.0.1:{server.server_port}"))
    monkeypatch.setattr(control_client, "require_instance", lambda _home: running)
    monkeypatch.setattr(control_client, "read_admin_key", lambda _home: "ps-x")
    client = control_client.ControlClient(Home(root=tmp_path))
    try:
        with pytest.raises(PenstockError) as refusal:
            client.get("/api/v1/traces/0")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert refusal.value.status == NotFound.status
    assert refusal.value.code == "PS-1954"
