"""Opens the sealed upstream keys of a snapshot, when a table is built. They live in memory only and are never logged."""

import logging
from collections.abc import Mapping
from pathlib import Path

from penstock.base.errors import PenstockError
from penstock.spec.snapshot import Snapshot
from penstock.store.sealing import origin_of, read_master_keys

_log = logging.getLogger("penstock.gateway")


class SecretOpener:
    """Opens with the master key in `key_path`, which is only read when a snapshot has secrets."""

    def __init__(self, key_path: Path) -> None:
        self._key_path = key_path

    def __call__(self, snapshot: Snapshot) -> Mapping[str, str]:
        """Return the secrets that providers name, by the name of the provider.

        A secret opens only for the host of the provider that names it. One that does not open is logged and left out:
        calls to its provider are refused with the reason, and all others go on.
        """
        wanted = [
            (provider, provider.secret)
            for provider in snapshot.providers
            if provider.secret is not None and provider.secret in snapshot.secrets
        ]
        if not wanted:
            return {}
        opened: dict[str, str] = {}
        try:
            keys = read_master_keys(self._key_path)
        except PenstockError as error:
            _log.error("no upstream key can be opened", extra={"reason": str(error)})
            return {}
        for provider, name in wanted:
            origin = origin_of(provider.base_url)
            try:
                opened[provider.name] = keys.open(snapshot.secrets[name], name=name, origin=origin)
            except PenstockError as error:
                _log.error(
                    "an upstream key stays closed",
                    extra={"secret": name, "provider": provider.name, "reason": str(error)},
                )
        return opened
