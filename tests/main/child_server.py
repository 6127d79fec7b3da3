"""A small stand-in for a supervised process: answers /readyz, notes its start and end, can be told to misbehave.

Usage: child_server.py PORT NOTES NAME [deaf]. `deaf` ignores SIGTERM.
"""

import http.server
import signal
import sys
import threading
from pathlib import Path

port, notes, name, *modes = sys.argv[1:]


def note(text: str) -> None:
    with Path(notes).open("a") as file:
        file.write(f"{name} {text}\n")


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Handler)


def stop(*_: object) -> None:
    note("stop")
    threading.Thread(target=server.shutdown).start()


signal.signal(signal.SIGTERM, signal.SIG_IGN if "deaf" in modes else stop)
note("start")
server.serve_forever()
