"""One gateway worker. Opens no database: all it knows is the snapshot, all it leaves is the spool."""

import os

from penstock.base.logs import configure_logs
from penstock.gateway.serve import serve_gateway
from penstock.main.home_files import create_home, read_internal_key
from penstock.main.serving import absorb_signals
from penstock.main.stopping import DRAIN_S
from penstock.spec.home import Home


def run_gateway(home: Home, *, host: str, port: int) -> None:
    """Serve until SIGTERM, drain, flush."""
    configure_logs(process="gateway")
    create_home(home)
    absorb_signals()
    serve_gateway(
        home, host=host, port=port, environ=os.environ, internal_key=read_internal_key(home), drain_s=DRAIN_S
    )
