"""Joins the sources of a home to its jobs."""

import random
from functools import partial

from penstock.knowledge.sources.running import IngestJobs
from penstock.knowledge.sources.scheduler import SourceScheduler
from penstock.knowledge.sources.watching import fingerprint
from penstock.main.rooms import Rooms


def create_scheduler(rooms: Rooms) -> SourceScheduler:
    """Return the loop over the sources of this home."""
    return SourceScheduler(
        rooms.engine,
        IngestJobs(rooms.jobs),
        chance=random.random,
        look=partial(fingerprint, private_root=rooms.home.root),
    )
