"""The rooms that the engine process needs: control tables, blobs, embedded models. And making a home ready to serve."""

import logging
from functools import cached_property
from pathlib import Path

from penstock import data as package_data
from penstock.access.keys import new_secret
from penstock.main.errors import SettingsInvalid
from penstock.main.home_files import hold_lock, read_admin_key, write_once
from penstock.main.planning import WEIGHTS
from penstock.main.rooms import Rooms
from penstock.tuning.models import ModelService

SHIPPED = Path(package_data.__file__).parent
"""Package data: `handbook/` (the demo corpus) and `pocket/` (the embedded model)."""
_log = logging.getLogger("penstock.settings")


class ModelRooms(Rooms):
    """Rooms with embedded models."""

    @cached_property
    def models(self) -> ModelService:
        """Embedded models."""
        return ModelService(self.registry, self.blobs, work=self.home.root / "work")

    def shared_models(self) -> dict[str, int]:
        """Return the number of the version that `prod` names of each model that the shared engine can host."""
        return {
            version.name: version.number
            for version in self.live_versions("model")
            if WEIGHTS in version.artefacts
        }

    def prepare(self) -> None:
        """Make the home ready to serve: tables, the owner's key, shipped models, snapshot.

        Idempotent; of several processes that start together one does it and the others wait.
        """
        with hold_lock(self.home.run / "prepare.lock"):
            self._make_admin_key()
            self.models.ensure_shipped(SHIPPED / "pocket")
            try:
                self.publish_snapshot()
            except SettingsInvalid as error:
                if not self._keeps_running or not self.home.snapshot.exists():
                    raise
                _log.error("settings are damaged, the snapshot stays", extra={"reason": error.message})

    def _make_admin_key(self) -> None:
        """Make the owner's key, once: not again after somebody took the file away.

        The file comes first and is adopted after, so a kill in between locks nobody out.
        """
        if not self.home.admin_key.exists():
            if any("owner" in key.scopes for key in self.keys.list()):
                return
            write_once(self.home.admin_key, f"{new_secret()}\n")
        self.keys.adopt(read_admin_key(self.home), "admin", ("owner",))
