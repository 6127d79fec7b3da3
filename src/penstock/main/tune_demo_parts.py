"""Single steps of `penstock tune demo`: bring the data, find versions, wait for what is made in the background."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from penstock import data as package_data
from penstock.base.errors import NotFound, PenstockError
from penstock.deploy.deployments.errors import UnknownDeployment
from penstock.main.control_client import ControlClient
from penstock.main.errors import ChildFailed
from penstock.main.tune_access import TuneAccess, read_recipe_file
from penstock.prompts.files import read_prompt
from penstock.spec.home import Home
from penstock.spec.tuning import FINAL_RUN_STATES, Recipe, RunRecord

PARTS = Path(package_data.__file__).parent / "tuning"
RECIPE = PARTS / "handbook-lora.toml"
GATE = PARTS / "handbook.gate.toml"
PROMPT = "handbook-question"
MODEL = "pocket"
CANDIDATE = "pocket-candidate"
DATASETS = {"handbook-tuning": "handbook:tuning", "handbook-held-out": "handbook:held-out"}
DEPLOYMENTS = "/api/v1/deployments"
DEADLINE_S = 120.0
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class DemoData:
    """What the recipe names, as it is registered now."""

    datasets: dict[str, str]
    """Name to `dataset:NAME@NUMBER`."""
    prompt: str


class DemoStuck(ChildFailed):
    """Something that is made in the background did not come to be."""

    code = "PS-4765"


def bring_data(client: ControlClient, say: Say) -> DemoData:
    """Register the datasets and the prompt; what is there already stays the version it is."""
    found = {}
    for name, source in DATASETS.items():
        made = client.post(f"/api/v1/datasets/{name}/import", {"source": source}, timeout_s=300.0)
        found[name] = f"dataset:{name}@{made['number']}"
        say(f"{found[name]}: {made['facts']['n_rows']} rows of {made['facts']['n_groups']} articles")
    content = read_prompt((PARTS / f"{PROMPT}.prompt").read_text(encoding="utf-8"))
    made = client.post(
        f"/api/v1/prompts/{PROMPT}/versions",
        {"content": msgspec.to_builtins(content), "note": "asks as the training rows do"},
    )
    return DemoData(datasets=found, prompt=f"prompt:{PROMPT}@{made['number']}")


def find_shipped(client: ControlClient) -> str:
    """Return the newest version of Pocket that came with the package: what is tuned, and what it is compared with."""
    versions = client.get(f"/api/v1/assets/model/{MODEL}")["versions"]
    for version in versions:
        if (version["content"].get("source") or {}).get("form") == "shipped":
            return f"model:{MODEL}@{version['number']}"
    raise NotFound(
        f"No version of model:{MODEL} is the one that comes with this package.",
        hint="Try on a fresh home: penstock tune demo --home ./demo",
    )


def read_demo_recipe(base: str) -> Recipe:
    """Return the recipe with the version that is tuned."""
    recipe = read_recipe_file(RECIPE)
    return msgspec.structs.replace(recipe, base=msgspec.structs.replace(recipe.base, model=base))


def find_finished(access: TuneAccess, wanted: Recipe, data: DemoData) -> RunRecord | None:
    """Return a run that is done already and was made by this very recipe from these very versions, if there is one."""
    for record in access.runs.list(name=wanted.name, state="done").rows:
        seen = msgspec.convert(record.recipe, Recipe)
        has_data = seen.data.train == data.datasets["handbook-tuning"] and seen.data.template == data.prompt
        is_same = seen.train == wanted.train and seen.adapter == wanted.adapter and seen.base == wanted.base
        if record.result is not None and has_data and is_same:
            return record
    return None


def find_unfinished(access: TuneAccess, wanted: Recipe) -> RunRecord | None:
    """Return the newest run of this recipe that was stopped or is under way, if there is one."""
    rows = access.runs.list(name=wanted.name, limit=1).rows
    if not rows or rows[0].state in ("done", "failed"):
        return None
    seen = msgspec.convert(rows[0].recipe, Recipe)
    parts = ("method", "seed", "base", "adapter", "train", "output")
    return rows[0] if all(getattr(seen, part) == getattr(wanted, part) for part in parts) else None


def tune(
    access: TuneAccess, recipe: Recipe, say: Say, tell: Callable[[float | None, str], None]
) -> RunRecord:
    """Run the recipe, or go on with a run of it that was interrupted, and return the record of its end."""
    begun = find_unfinished(access, recipe)
    if begun is None:
        return access.start(recipe, actor="demo", tell=tell)
    say(f"going on with {begun.id} from step {begun.step}")
    if begun.state in FINAL_RUN_STATES:
        return access.resume(begun.id, tell=tell)
    return access.follow(begun.id, tell)


def deployment_of(version: str) -> str:
    """Return the name that a version is deployed under; another one for each."""
    return f"{CANDIDATE}-{version.rpartition('@')[2]}"


def deploy_candidate(client: ControlClient, version: str, say: Say) -> dict[str, Any]:
    """Start an engine of its own for `version` and return the deployment once it is proven and answers."""
    name = deployment_of(version)
    say(f"starting an engine for {version} beside the one that answers as model:{MODEL}@prod")
    client.post(DEPLOYMENTS, {"name": name, "model": version})
    end = time.monotonic() + DEADLINE_S
    while True:
        record: dict[str, Any] = client.get(f"{DEPLOYMENTS}/{name}")
        if record["state"] == "ready" and record["version"] == version:
            return record
        if record["state"] == "failed" or time.monotonic() > end:
            told = (record.get("error") or {}).get("message") or f"it is {record['state']}"
            raise DemoStuck(f"{version} could not be deployed: {told}", hint=f"penstock deploy show {name}")
        time.sleep(0.2)


def undeploy_candidate(client: ControlClient, version: str) -> None:
    """Take the engine away that was started for `version`, where one was."""
    try:
        client.delete(f"{DEPLOYMENTS}/{deployment_of(version)}")
    except PenstockError as error:  # what control says comes with its code, not as its class
        if error.code != UnknownDeployment.code and not isinstance(error, NotFound):
            raise


def find_prod(client: ControlClient) -> str:
    """Return the version that `model:pocket@prod` names."""
    version = client.get("/api/v1/versions", ref=f"model:{MODEL}@prod")
    return f"model:{MODEL}@{version['number']}"


def wait_until_served(home: Home, version: str, ask: Callable[[], str | None]) -> None:
    """Wait until calls to `pocket` are answered by `version`; `ask` makes one and returns what answered it."""
    end = time.monotonic() + DEADLINE_S
    seen: str | None = None
    while time.monotonic() < end:
        with suppress(PenstockError):
            seen = ask()
        if seen is not None and seen.startswith(version + " "):
            return
        time.sleep(0.3)
    raise DemoStuck(f"{version} is prod, and {seen or 'nothing'} still answers.", hint=f"See {home.logs}.")
