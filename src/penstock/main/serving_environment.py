"""The environment that a running instance serves in, for commands that are given in another.

Which providers there are depends on variables. A command typed in a shell without them must not publish a snapshot
without those providers, so `penstock up` notes which variables it has: names, and values only where those decide where
calls go. No key is written.
"""

import os
from collections.abc import Mapping

import msgspec

from penstock.base.files import write_atomic
from penstock.main.found_providers import address_variables
from penstock.main.instance import is_owned
from penstock.spec.home import Home

IS_SET = "(set)"
"""Stands for a value that is not noted."""


def note_environment(home: Home, environ: Mapping[str, str]) -> None:
    """Note the variables of the instance that is about to serve."""
    shown = address_variables()
    noted = {name: (value if name in shown else IS_SET) for name, value in environ.items() if value.strip()}
    text = msgspec.json.encode({"pid": os.getpid(), "variables": noted})
    write_atomic(home.run / "environment.json", text, mode=0o600)


def serving_environment(home: Home, environ: Mapping[str, str]) -> Mapping[str, str]:
    """Return the variables of the instance that runs on this home, or `environ` when none runs."""
    if not is_owned(home):
        return environ
    try:
        noted = msgspec.json.decode((home.run / "environment.json").read_bytes())
        variables = noted["variables"]
    except (OSError, ValueError, KeyError, TypeError):
        return environ
    return {str(name): str(value) for name, value in variables.items()}
