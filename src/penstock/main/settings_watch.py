"""Watches `penstock.toml` of a running home: a good change becomes a new snapshot, a bad one is reported and waits."""

import logging
import threading
from collections.abc import Callable

from penstock.base.errors import PenstockError
from penstock.spec.home import Home

INTERVAL_S = 1.0
RETRY_LOOKS = 5
"""A file that did not fit is tried again after so many looks: what it lacked may have been made elsewhere."""
_log = logging.getLogger("penstock.settings")
_Stamp = tuple[int, int, int] | None


class SettingsWatch:
    """Follows one file. `problem` is what is wrong with it now, None while it is right."""

    def __init__(self, home: Home, publish: Callable[[], object]) -> None:
        self.problem: str | None = None
        self._path = home.settings
        self._publish = publish
        self._seen: _Stamp = (0, 0, 0)  # of no file: the first look sees whatever is there
        self._n_idle = 0

    def run(self, stop: threading.Event) -> None:
        """Look every second until `stop` is set."""
        self.look()
        while not stop.wait(INTERVAL_S):
            self.look()

    def look(self) -> bool:
        """Look once; return whether a change was taken up. What was published before stays until one is good."""
        stamp = self._stamp()
        is_new = stamp != self._seen
        self._n_idle = 0 if is_new else self._n_idle + 1
        if not is_new and (self.problem is None or self._n_idle % RETRY_LOOKS):
            return False
        self._seen = stamp
        try:
            self._publish()
        except PenstockError as error:
            if is_new or self.problem != error.message:
                _log.error("settings not taken up, the last good ones stay", extra={"reason": str(error)})
            self.problem = error.message
            return False
        except Exception as error:  # the edge of a thread: the database may be away for a moment
            self._seen = (0, 0, 0)
            self.problem = f"{type(error).__name__} while taking up the settings"
            _log.exception("settings not taken up, will try again")
            return False
        if self.problem is not None:
            _log.info("settings are right again")
        self.problem = None
        return True

    def _stamp(self) -> _Stamp:
        try:
            stat = self._path.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_ino, stat.st_size
