"""The preflight: everything that is looked at before a run starts, in one walk over the rows."""

from collections.abc import Callable
from pathlib import Path

from penstock.tuning.preflight.types import Flight, Preflight

Tell = Callable[[float | None, str], None]


def fly(flight: Flight, *, folder: Path | None = None, tell: Tell | None = None) -> Preflight:
    """Return what is wrong with the run that `flight` describes; nothing is raised for a finding.

    With `folder`, the rows are written on the way: `folder/train`, `folder/heldout`, `folder/samples.json`, ready for
    the trainer. They are written whether or not something refuses; look at `is_refused` before use.
    """
    raise NotImplementedError
