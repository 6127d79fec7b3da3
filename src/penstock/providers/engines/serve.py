"""Runs the engine front on uvicorn until SIGTERM, then lets running replies finish."""

import socket

import uvicorn

from penstock.providers.engines.app import EngineApp


def serve_engine(app: EngineApp, *, port: int, host: str = "127.0.0.1", drain_s: int = 30) -> None:
    """Serve `app` on loopback and return after SIGTERM or SIGINT, once replies are finished or `drain_s` passed."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http="httptools",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=drain_s,
    )
    uvicorn.Server(config).run()


def find_free_port() -> int:
    """Return a loopback port that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
