"""`penstock up`: which processes a home needs, on which ports, and what the person is told."""

import logging
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass

from penstock import __version__
from penstock.main.children import ChildSpec
from penstock.main.engine_files import EngineSpecs, settle_engines
from penstock.main.errors import PortTaken
from penstock.main.home_files import create_home
from penstock.main.instance import Addresses, own_home
from penstock.main.ports import choose_port
from penstock.main.serving_environment import note_environment
from penstock.main.settings import UpSettings, load_settings
from penstock.main.stopping import CONTROL_PATIENCE_S
from penstock.main.supervisor import Supervisor
from penstock.spec.home import Home

_LOG = logging.getLogger("penstock.supervisor")
_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, kw_only=True)
class UpOptions:
    """What the command line says; None leaves it to `[up]` of the settings."""

    host: str | None = None
    port: int | None = None
    console_port: int | None = None
    workers: int | None = None


def run_up(home: Home, options: UpOptions, say: Callable[[str], None]) -> None:
    """Run all processes of `home` until SIGTERM or SIGINT.

    Raises `HomeInUse` when another one runs it, `PortTaken`, `SettingsInvalid` (nothing was started in
    these cases) and `ChildFailed`.
    """
    create_home(home)
    settings = load_settings(home.settings).settings
    with own_home(home) as note_owner:
        addresses, workers = choose_addresses(settings.up, options)
        note_owner(addresses)
        note_environment(home, os.environ)
        for folder in (home.ready, home.followed):  # of an instance that was killed: ids come again
            shutil.rmtree(folder, ignore_errors=True)
        settle_engines(home, addresses.engine_port)
        supervisor = Supervisor(
            home=home,
            addresses=addresses,
            workers=workers,
            version=__version__,
            children=plan_children(home, addresses, workers),
            say=say,
            find_engines=EngineSpecs(home),
        )
        _LOG.info("starting", extra={"home": str(home.root), "workers": workers})
        supervisor.run(lambda: _announce(home, addresses, say))
    say("stopped")


def choose_addresses(up: UpSettings, options: UpOptions) -> tuple[Addresses, int]:
    """Return the addresses to use (0 chooses a free port) and the number of gateway workers."""
    host = options.host or up.host
    port = up.port if options.port is None else options.port
    console_port = up.console_port if options.console_port is None else options.console_port
    if port == console_port != 0:
        raise PortTaken(
            f"Gateway and console cannot both listen on port {port}.",
            hint="Give two different ones with --port and --console-port.",
        )
    addresses = Addresses(
        host=host,
        gateway_port=choose_port(host, port, option="--port"),
        console_port=choose_port(host, console_port, option="--console-port"),
        apps_port=choose_port(_LOOPBACK, 0, option="--apps-port"),
        engine_port=choose_port(_LOOPBACK, 0, option="--engine-port"),
    )
    return addresses, options.workers or up.workers


def plan_children(home: Home, addresses: Addresses, workers: int) -> list[ChildSpec]:
    """Return the processes that are always there, in the order in which they are stopped: gateways, apps, control.

    Engines come and go (`engine_files`); they are stopped before control.
    """
    penstock = (sys.executable, "-m", "penstock.cli")
    base = ("--home", str(home.root))
    public = ("--host", addresses.host)
    gateways = [
        ChildSpec(
            name=f"gateway-{number}",
            command=(*penstock, "gateway", *base, *public, "--port", str(addresses.gateway_port)),
            host=addresses.host,
            port=addresses.gateway_port,
            ready_folder=home.ready,
        )
        for number in range(1, workers + 1)
    ]
    return [
        *gateways,
        ChildSpec(
            name="apps",
            command=(*penstock, "apps", *base, "--port", str(addresses.apps_port)),
            host=_LOOPBACK,
            port=addresses.apps_port,
            ready_path="/health",
            is_vital=False,
        ),
        ChildSpec(
            name="control",
            command=(*penstock, "control", *base, *public, "--port", str(addresses.console_port)),
            host=addresses.host,
            port=addresses.console_port,
            drain_s=CONTROL_PATIENCE_S,
        ),
    ]


def _announce(home: Home, addresses: Addresses, say: Callable[[str], None]) -> None:
    say(f"gateway   {addresses.gateway_url}/v1")
    say(f"console   {addresses.console_url}")
    say(f"admin key {home.admin_key}")
    say("ready; ctrl-c stops it")
