"""The engine process: hosts every embedded model of this home. Heavy, so nothing else imports it."""

from penstock.base.logs import configure_logs
from penstock.main.wiring import Installation
from penstock.providers.engines.app import EngineApp
from penstock.providers.engines.serve import serve_engine
from penstock.spec.home import Home


def run_engine(home: Home, *, port: int) -> None:
    """Serve until SIGTERM."""
    configure_logs(process="engine")
    installation = Installation(home, keeps_running=True)
    installation.prepare()
    app = EngineApp(installation.models.hosted_models(), internal_key=installation.internal_key)
    installation.close()
    serve_engine(app, port=port, drain_s=8)
