"""What is wrong with the rows that a deployment makes: asked before it is stored, and again whenever rows are planned,
for one bad row would keep every other change of a home from its gateways. Pure.
"""

from collections.abc import Mapping, Sequence

from penstock.deploy.deployments.rows import (
    LiveDeployment,
    adapter_route,
    deployment_providers,
    deployment_routes,
)
from penstock.deploy.deployments.types import Generation, PinnedModel
from penstock.deploy.row_problems import RowProblem
from penstock.deploy.rules import find_row_problems
from penstock.deploy.snapshots import draft_snapshot
from penstock.spec.tuning import DeploymentSpec

_ANY_ADDRESS = "http://127.0.0.1:4600/v1"
"""Stands for the address of a process that has none yet."""


def find_deployment_problems(live: LiveDeployment, secrets: Mapping[str, str] | None) -> list[RowProblem]:
    """Return what the rules of providers and routes say of one deployment's rows.

    `secrets` are the sealed ones; None when they are not known, and then nothing is said about them.
    """
    draft = draft_snapshot(
        providers=deployment_providers([live]),
        routes=deployment_routes([live]),
        keys=(),
        secrets=secrets,
    )
    found = dict.fromkeys(find_row_problems(draft))
    return [each for each in found if secrets is not None or each.field != "secret"]


def find_asked_problems(
    spec: DeploymentSpec, model: PinnedModel, adapters: Sequence[PinnedModel]
) -> list[RowProblem]:
    """Return the same of a deployment that is only asked for."""
    coming = Generation(
        number=1,
        model=model,
        engine=spec.engine,
        adapters=tuple(adapters),
        url=spec.url,
        served_name=spec.served_name or spec.name,
        secret=spec.secret,
    )
    return find_deployment_problems(
        LiveDeployment(spec=spec, generation=coming, urls=(spec.url or _ANY_ADDRESS,)), None
    )


def without_unsound(
    deployments: Sequence[LiveDeployment], secrets: Mapping[str, str] | None
) -> tuple[list[LiveDeployment], list[str]]:
    """Return the deployments whose rows are right, and a warning for each other."""
    sound: list[LiveDeployment] = []
    warnings: list[str] = []
    for each in deployments:
        if found := find_deployment_problems(each, secrets):
            told = "; ".join(problem.message for problem in found)
            warnings.append(f"the deployment {each.spec.name!r} is left out: {told}")
        else:
            sound.append(each)
    return sound, warnings


def shadowed_routes(deployments: Sequence[LiveDeployment]) -> Mapping[str, str]:
    """Return the names that deployments answer under, with the deployment, in which nothing else may stand unseen."""
    names: dict[str, str] = {}
    for each in deployments:
        names.setdefault(each.spec.route or each.spec.name, each.spec.name)
        for adapter in each.generation.adapters:
            names.setdefault(adapter_route(each.spec.name, adapter), each.spec.name)
    return names
