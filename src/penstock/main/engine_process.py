"""The engine process: hosts every embedded model of this home. Heavy, so nothing else imports it."""

from penstock.base.logs import configure_logs
from penstock.main.embedded import ModelRooms
from penstock.main.stopping import DRAIN_S
from penstock.providers.engines.app import EngineApp
from penstock.providers.engines.serve import serve_engine
from penstock.spec.home import Home


def run_engine(home: Home, *, port: int) -> None:
    """Serve until SIGTERM."""
    configure_logs(process="engine")
    rooms = ModelRooms(home, keeps_running=True)
    rooms.prepare()
    app = EngineApp(rooms.models.hosted_models(), internal_key=rooms.internal_key)
    rooms.close()
    serve_engine(app, port=port, drain_s=DRAIN_S)
