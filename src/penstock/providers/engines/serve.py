"""Runs the engine front on uvicorn until SIGTERM, then lets running replies finish."""

import signal
import sys

import uvicorn

from penstock.providers.engines.app import EngineApp


def serve_engine(app: EngineApp, *, port: int, host: str = "127.0.0.1", drain_s: int = 30) -> None:
    """Serve `app` on loopback until SIGTERM or SIGINT; then finish replies (at most `drain_s`) and exit with 0.

    Call it in the main thread of the process.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http="httptools",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,  # longer than clients keep idle connections, so they never meet a closing one
        timeout_graceful_shutdown=drain_s,
    )
    # uvicorn raises the signal again once it has drained; without this that would be death by signal
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: sys.exit(0))
    uvicorn.Server(config).run()
