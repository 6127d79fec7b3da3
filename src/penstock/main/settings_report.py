"""What `penstock config` says: whether the file is right as a whole, and what is in force."""

import os
from collections.abc import Mapping
from typing import Any

from penstock.main.instance import Addresses
from penstock.main.planning import Plan, plan
from penstock.main.rooms import Rooms
from penstock.main.settings import load_settings
from penstock.spec.home import Home


def check_settings(home: Home, environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return counts and warnings; raise `SettingsInvalid` for what is wrong. Writes nothing.

    Where the home has been used, the objects of its control tables are looked at together with the file.
    """
    environ = os.environ if environ is None else environ
    file = load_settings(home.settings)
    planned = (
        _plan_with_objects(home, environ) if home.control_db.exists() else plan(file, environ, Addresses())
    )
    warnings = [
        *planned.warnings,
        *(
            f"provider {provider.name!r}: the variable {provider.api_key_env} is not set, so its calls will fail"
            for provider in planned.providers
            if provider.api_key_env and provider.auth != "none" and not environ.get(provider.api_key_env)
        ),
    ]
    variable = file.settings.storage.control_url_env
    if variable and not environ.get(variable):
        warnings.append(f"storage.control_url_env: the variable {variable} is not set")
    return {
        "ok": True,
        "path": str(home.settings),
        "exists": home.settings.exists(),
        "n_providers": len(file.settings.providers),
        "n_routes": len(file.settings.routes),
        "warnings": warnings,
    }


def _plan_with_objects(home: Home, environ: Mapping[str, str]) -> Plan:
    rooms = Rooms(home, environ=environ)
    try:
        return rooms.plan()
    finally:
        rooms.close()


def show_settings(home: Home) -> dict[str, Any]:
    """Return every setting, defaults included, by section."""
    values: dict[str, Any] = load_settings(home.settings).settings.model_dump(mode="json")
    return values
