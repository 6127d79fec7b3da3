"""A provider in a thread that streams words slowly and counts what it was asked."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class ScriptedProvider:
    """`first_s` until the first word, `each_s` until every other; `status` other than 200 refuses."""

    def __init__(self, *, first_s: float = 0.02, each_s: float = 0.002) -> None:
        self.first_s, self.each_s, self.status = first_s, each_s, 200
        self.bodies: list[dict[str, Any]] = []
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                provider.bodies.append(body)
                if provider.status != 200:
                    self.answer(provider.status, {"error": {"message": "no", "code": "nope"}})
                elif body.get("stream"):
                    self.stream(body)
                else:
                    message = {"role": "assistant", "content": "words"}
                    choice = {"index": 0, "message": message, "finish_reason": "stop"}
                    self.answer(200, {"id": "r", "object": "chat.completion", "created": 1, "model": "m",
                                      "choices": [choice], "usage": usage_of(body)})  # fmt: skip

            def stream(self, body: dict[str, Any]) -> None:
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                for number in range(body["max_tokens"]):
                    time.sleep(provider.first_s if number == 0 else provider.each_s)
                    self.event([{"index": 0, "delta": {"content": f"w{number} "}, "finish_reason": None}])
                self.event([{"index": 0, "delta": {}, "finish_reason": "stop"}])
                self.event([], usage=usage_of(body))
                self.chunk(b"data: [DONE]\n\n")
                self.chunk(b"")

            def event(self, choices: list[Any], **more: Any) -> None:
                told = {"id": "r", "object": "chat.completion.chunk", "created": 1, "model": "m"}
                self.chunk(b"data: " + json.dumps({**told, "choices": choices, **more}).encode() + b"\n\n")

            def chunk(self, data: bytes) -> None:
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                self.wfile.flush()

            def answer(self, status: int, value: Any) -> None:
                data = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_arguments: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Without `/v1`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Take no more calls."""
        self._server.shutdown()
        self._server.server_close()


def usage_of(body: dict[str, Any]) -> dict[str, int]:
    """Two tokens a word of the prompt, and as many of the reply as it may have."""
    words = sum(len(str(each["content"]).split()) for each in body["messages"])
    return {"prompt_tokens": 2 * words, "completion_tokens": body["max_tokens"], "total_tokens": 0}
