"""A web site for tests: pages in a dictionary behind a real socket, and every request that came."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Page:
    """What the site answers for one path."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    etag: str | None = None
    modified: int | None = None


@dataclass
class Site:
    """Pages by path with query; others are 404."""

    pages: dict[str, Page] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def asked(self) -> list[str]:
        """Return the paths that were asked for, robots and sitemap guesses left out."""
        return [path for path, _ in self.requests if path not in {"/robots.txt", "/sitemap.xml"}]

    def put(self, path: str, text: str, **more: object) -> None:
        """Put an HTML page."""
        self.pages[path] = Page(body=text.encode(), headers={"content-type": "text/html"}, **more)  # type: ignore[arg-type]


@contextmanager
def serve_site() -> Iterator[Site]:
    """Serve a site on loopback while inside."""
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            site.requests.append((self.path, headers))
            page = site.pages.get(self.path) or Page(status=404)
            told = dict(page.headers)
            status, body = page.status, page.body
            if page.etag is not None:
                told["etag"] = page.etag
                if headers.get("if-none-match") == page.etag:
                    status, body = 304, b""
            if page.modified is not None:
                told["last-modified"] = formatdate(page.modified, usegmt=True)
                if headers.get("if-modified-since") == told["last-modified"]:
                    status, body = 304, b""
            self.send_response(status)
            for name, value in {"content-length": str(len(body)), **told}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
