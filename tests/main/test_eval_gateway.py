"""The gateway as evaluations ask it: what was made a moment ago is waited for, what does not exist is told."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from penstock.main import eval_gateway
from penstock.main.eval_gateway import HttpGateway


@pytest.fixture
def late() -> Iterator[HTTPServer]:
    """A gateway that hears of the model `new` after two calls, and never of any other."""

    class Handler(BaseHTTPRequestHandler):
        n_calls = 0

        def do_POST(self) -> None:
            Handler.n_calls += 1
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            is_known = asked["model"] == "new" and Handler.n_calls > 2
            body = (
                {"choices": []} if is_known else {"error": {"code": "model_not_found", "message": "unknown"}}
            )
            data = json.dumps(body).encode()
            self.send_response(200 if is_known else 404)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_arguments: object) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


async def test_a_version_that_was_just_made_is_waited_for(
    late: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eval_gateway, "NEWS_POLL_S", 0.01)
    gateway = HttpGateway(f"http://127.0.0.1:{late.server_address[1]}", "key")
    try:
        assert (await gateway.chat({"model": "new"}, headers={}, timeout_s=60)).status == 200
        monkeypatch.setattr(eval_gateway, "NEWS_S", 0.0)
        assert (await gateway.chat({"model": "none"}, headers={}, timeout_s=60)).status == 404
    finally:
        await gateway.close()
