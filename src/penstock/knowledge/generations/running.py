"""Builds of candidates as jobs: they take as long as embedding takes."""

from typing import Any

from penstock.jobs.service import JobService
from penstock.jobs.types import Job
from penstock.knowledge.generations.types import LIVE, PREVIOUS, check_candidate_name
from penstock.knowledge.recipes import recipe_as_dict
from penstock.spec.knowledge import Recipe

KNOWLEDGE_BUILD = "knowledge.build"
"""Kind of the jobs."""


def submit_build(
    jobs: JobService, base: str, *, track: str | None, recipe: Recipe | None = None, note: str = ""
) -> Job:
    """Queue building `recipe` as the candidate `track`; of `live`, `previous` or None the index is written anew.

    The same build under way is returned instead; another one of that track raises `JobUnderWay`.
    """
    if track not in {None, LIVE, PREVIOUS}:
        check_candidate_name(str(track))
    spec: dict[str, Any] = {"base": base, "track": track, "note": note}
    if recipe is not None:
        spec["recipe"] = recipe_as_dict(recipe)
    return jobs.submit(KNOWLEDGE_BUILD, spec, dedupe_key=f"{KNOWLEDGE_BUILD}:{base}:{track or LIVE}")
