"""A gateway in a process of its own between real clients and the upstream of six dialects."""

import contextlib
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from penstock.deploy.snapshots import build_snapshot, write_snapshot
from penstock.spec.home import Home
from penstock.spec.routes import Provider, RetryPolicy, Route, Target
from penstock.spec.snapshot import Limits
from tests.clients.upstream import UpstreamThread
from tests.fixtures.ports import free_port
from tests.fixtures.upstreams.server import DIALECTS, PREFIXES
from tests.gateway.conftest import KEY, key_row
from tests.gateway.upstream import Exchange, FakeUpstream

OTHER_KEY = "ps-other-key-0123456789"
MODELS = (
    "text",
    "tools",
    "json",
    "think",
    "logprobs",
    "limit",
    "long",
    "slow",
    "broken",
    "late-error",
    "broken-server",
    "any",
)
KNOWN_NAMES = {
    "gpt-4o-mini": ("openai", "text"),
    "gpt-4o": ("anthropic", "text"),
    "gpt-4.1": ("openai", "tools"),
    "gpt-4.1-mini": ("anthropic", "tools"),
    "gpt-4.1-nano": ("gemini", "json"),
    "text-embedding-3-small": ("openai", "any"),
}
"""Routes for clients that only take names they know."""
PROGRAM = """
import signal
import sys
from pathlib import Path
from penstock.gateway.serve import serve_gateway
from penstock.spec.home import Home
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
serve_gateway(Home(root=Path(sys.argv[1])), host="127.0.0.1", port=int(sys.argv[2]), environ={}, drain_s=1)
"""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where clients call, and what arrives behind it."""

    url: str
    key: str
    upstream: FakeUpstream

    def asked(self) -> Exchange:
        """Return the last request that the upstream got."""
        return self.upstream.seen[-1]


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    thread = UpstreamThread()
    origin = thread.start()
    home = Home(root=tmp_path_factory.mktemp("clients"))
    home.snapshot.parent.mkdir()
    _write_snapshot(home, origin)
    port = free_port()
    gateway = subprocess.Popen([sys.executable, "-c", PROGRAM, str(home.root), str(port)])
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_ready(url, gateway)
        yield Place(url=url, key=KEY, upstream=thread.upstream)
    finally:
        gateway.send_signal(signal.SIGTERM)
        gateway.wait(240)
        thread.stop()


@pytest.fixture
def place(running: Place) -> Place:
    """The running gateway, and an upstream that has seen nothing yet."""
    running.upstream.seen.clear()
    return running


def _write_snapshot(home: Home, origin: str) -> None:
    providers = [
        Provider(name=dialect, dialect=dialect, base_url=origin + PREFIXES[dialect], auth="none")
        for dialect in DIALECTS
    ]
    named = {f"{dialect}-{model}": (dialect, model) for dialect in DIALECTS for model in MODELS}
    routes = [
        Route(
            name=name,
            targets=(Target(provider=dialect, model=model),),
            retry=RetryPolicy(max_attempts=1),
            breaker=None,
        )
        for name, (dialect, model) in {**named, **KNOWN_NAMES}.items()
    ]
    keys = [key_row(KEY, "test"), key_row(OTHER_KEY, "other", project="elsewhere")]
    snapshot = build_snapshot(providers=providers, routes=routes, keys=keys, limits=Limits())
    write_snapshot(home.snapshot, snapshot)


def _wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(20_000):
        assert process.poll() is None, "the gateway ended"
        with (
            contextlib.suppress(urllib.error.URLError, ConnectionError),
            urllib.request.urlopen(url + "/readyz", timeout=60),
        ):
            return
        time.sleep(0.01)
    raise AssertionError("the gateway did not get ready")
