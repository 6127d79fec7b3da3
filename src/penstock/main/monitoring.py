"""Alerts of one home, joined: what REST and pages work on, and the two threads behind them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from penstock.base.errors import PenstockError
from penstock.main.instance import find_addresses
from penstock.main.measuring import parse_for
from penstock.main.rooms import Rooms
from penstock.monitors.channels import ChannelService
from penstock.monitors.delivery import Delivery, Sender
from penstock.monitors.errors import SecretMissing
from penstock.monitors.evaluator import Evaluator
from penstock.monitors.service import AlertService
from penstock.store.sealing import master_key_path, origin_of, read_master_keys
from penstock.store.spans.port import Measures

PUBLIC_URL = "PENSTOCK_CONSOLE_URL"
"""Under which address people reach the console, for links in messages; else the one it listens on."""

MAX_BEHIND_BYTES = 16 * 1024 * 1024
"""What the collector stores in a second or two."""


@dataclass(frozen=True, kw_only=True)
class Monitoring:
    """All of it, over the control tables and one span store."""

    alerts: AlertService
    channels: ChannelService
    evaluator: Evaluator
    delivery: Delivery

    def find_warning(self) -> str | None:
        """Return what keeps alerts from being heard, or None."""
        if self.evaluator.problem is not None:
            return f"alerts cannot be evaluated: {self.evaluator.problem}"
        n_dead = self.channels.count_messages().get("dead", 0)
        return f"{n_dead} messages were given up: penstock alert messages --state dead" if n_dead else None


def create_monitoring(
    rooms: Rooms, measures: Measures, *, waiting_bytes: Callable[[], int] = lambda: 0
) -> Monitoring:
    """Return the services over the control tables of `rooms` and the measures of its span store.

    `waiting_bytes` says how much is taken and not stored yet: while that is more than seconds' worth, rules wait.
    """

    def find_console_url() -> str:
        return rooms.environ.get(PUBLIC_URL, "").strip() or find_addresses(rooms.home).console_url

    engine = rooms.engine
    return Monitoring(
        alerts=AlertService(engine, measures, parse=parse_for, find_console_url=find_console_url),
        channels=ChannelService(engine),
        evaluator=Evaluator(
            engine,
            measures,
            parse=parse_for,
            find_console_url=find_console_url,
            is_behind=lambda: waiting_bytes() > MAX_BEHIND_BYTES,
        ),
        delivery=Delivery(engine, Sender(ChannelSecrets(rooms))),
    )


class ChannelSecrets:
    """Reads what channels name: variables of this process, and sealed secrets for the host they were entered for."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    def __call__(self, *, env: str | None, secret: str | None, url: str | None) -> str:
        """Return the text that goes to `url`; of a secret that is itself an address, the address."""
        if env is not None:
            return _read_variable(self._rooms.environ, env)
        if secret is None:
            raise SecretMissing("The channel names neither a variable nor a secret.")
        try:
            info = self._rooms.secrets.get(secret)
            sealed = self._rooms.secrets.sealed()[secret]
            keys = read_master_keys(master_key_path(self._rooms.home.master_key, self._rooms.environ))
            text = keys.open(sealed, name=secret, origin=info.origin)
        except (PenstockError, KeyError) as error:
            raise SecretMissing(f"The secret {secret!r} cannot be opened: {error}") from error
        goes_to = origin_of(text if url is None else url)
        if goes_to != info.origin:
            raise SecretMissing(
                f"The secret {secret!r} was entered for {info.origin} and is not sent anywhere else.",
                hint=f"Enter it for the channel's host: penstock secret set {secret} --url {goes_to or 'https://HOST'}",
            )
        return text


def _read_variable(environ: Mapping[str, str], name: str) -> str:
    text = environ.get(name, "").strip()
    if not text:
        raise SecretMissing(
            f"The variable {name} is not set where the control process runs.", hint="Set it and start again."
        )
    return text
