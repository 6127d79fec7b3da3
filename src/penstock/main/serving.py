"""Runs an ASGI application on uvicorn until SIGTERM or SIGINT, then drains and returns."""

import signal
from types import FrameType
from typing import Any

import uvicorn


def serve(app: Any, *, host: str, port: int, drain_s: int) -> None:
    """Serve `app` and return once it has drained (at most `drain_s`). Call it in the main thread."""
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

    absorb_signals()
    uvicorn.Server(config).run()


def absorb_signals() -> None:
    """Let SIGTERM and SIGINT do nothing outside of uvicorn, which raises them again once it has drained.

    Without this that second time would end the process before it has flushed what it holds.
    """

    def ignore(_number: int, _frame: FrameType | None) -> None:
        """The first time was enough."""

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ignore)
