"""Permissions, roles and the check. Nouns only: who asks, and for which route, is known elsewhere.

Every route names the one permission it needs; a key holds what its scopes give. New roles are new rows of
`ROLE_PERMISSIONS`, on the same permissions.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType

from penstock.base.errors import Forbidden
from penstock.spec.routes import KeyRow


class Permission(StrEnum):
    """One thing somebody may do, written `noun.verb`."""

    MODELS_CALL = "models.call"
    """Call models through the gateway or the playground."""
    TRACES_READ = "traces.read"
    """See traces: names, times, tokens, money, versions."""
    TRACES_CONTENT = "traces.content"
    """See what was asked and answered."""
    TRACES_WRITE = "traces.write"
    """Send spans in (OTLP)."""
    TRACES_ERASE = "traces.erase"
    """Delete what is too old, erase a user, session or trace, and see receipts of it."""
    VIEWS_WRITE = "views.write"
    """Keep and forget saved views of lists."""
    COST_READ = "cost.read"
    """See what calls cost, by whom and for what, and compare it with providers' bills."""
    REGISTRY_READ = "registry.read"
    REGISTRY_WRITE = "registry.write"
    """Register versions."""
    ALIASES_MOVE = "aliases.move"
    """Move an alias on evidence, or roll it back."""
    ALIASES_OVERRIDE = "aliases.override"
    """Move a protected alias on a reason instead of evidence, or on scores that were handed in; recorded as such."""
    JOBS_READ = "jobs.read"
    JOBS_WRITE = "jobs.write"
    """Submit, cancel and retry jobs."""
    KNOWLEDGE_READ = "knowledge.read"
    KNOWLEDGE_WRITE = "knowledge.write"
    DATASETS_READ = "datasets.read"
    DATASETS_WRITE = "datasets.write"
    """Make versions of datasets, review what was proposed, read files of this machine into them."""
    PROMPTS_READ = "prompts.read"
    PROMPTS_WRITE = "prompts.write"
    EVALS_READ = "evals.read"
    """See evaluations, their outputs and scores, experiments, judges and verdicts of gates."""
    EVALS_WRITE = "evals.write"
    """Run, stop and resume evaluations, label outputs, judge by gates."""
    TUNING_READ = "tuning.read"
    TUNING_WRITE = "tuning.write"
    """Start, stop and delete runs; make versions of models out of others."""
    DEPLOYMENTS_READ = "deployments.read"
    DEPLOYMENTS_WRITE = "deployments.write"
    """Start and stop engines, and load tests, which cost what calls cost."""
    ROUTES_READ = "routes.read"
    """See routes, providers and the state of the installation."""
    CONFIG_READ = "config.read"
    """See providers, routes, limits, prices and their history."""
    CONFIG_WRITE = "config.write"
    """Change them, and roll them back."""
    SECRETS_READ = "secrets.read"
    """See which secrets there are; nobody can read one."""
    SECRETS_WRITE = "secrets.write"
    """Enter, replace and delete secrets."""
    DASHBOARDS_WRITE = "dashboards.write"
    """Make, change and delete dashboards."""
    ALERTS_READ = "alerts.read"
    """See alert rules, how they stand, where they are told of, and what was sent."""
    ALERTS_WRITE = "alerts.write"
    """Make, change, silence and delete alert rules and the channels they are told through."""
    METRICS_READ = "metrics.read"
    """See the numbers that monitoring collects."""
    KEYS_READ = "keys.read"
    KEYS_WRITE = "keys.write"
    """Create, change, rotate and revoke keys."""
    ADMIN = "admin"
    """Everything that has no finer name."""


Role = str
"""The name of a set of permissions."""

ROLE_PERMISSIONS: Mapping[Role, frozenset[Permission]] = MappingProxyType({"owner": frozenset(Permission)})

SCOPE_PERMISSIONS: Mapping[str, frozenset[Permission]] = MappingProxyType(
    {
        "owner": ROLE_PERMISSIONS["owner"],
        "call": frozenset({Permission.MODELS_CALL, Permission.TRACES_WRITE}),
        "metrics": frozenset({Permission.METRICS_READ}),
        "prompts": frozenset({Permission.PROMPTS_READ}),
        "release": frozenset(
            {
                Permission.REGISTRY_READ,
                Permission.ALIASES_MOVE,
                Permission.EVALS_READ,
                Permission.EVALS_WRITE,
                Permission.DATASETS_READ,
                Permission.JOBS_READ,
            }
        ),
        "internal": frozenset({Permission.MODELS_CALL, Permission.TRACES_WRITE}),
    }
)
"""What the scopes of a key give. An unknown scope gives nothing."""
GRANTABLE_SCOPES = ("owner", "call", "metrics", "prompts", "release")
"""What a key may be made with; `internal` is the installation's own."""


def permissions_of(scopes: Iterable[str]) -> frozenset[Permission]:
    """Return everything that these scopes together allow."""
    return frozenset().union(*(SCOPE_PERMISSIONS.get(scope, frozenset()) for scope in scopes))


def has_permission(key: KeyRow, permission: Permission) -> bool:
    """Return whether the key may do this."""
    return permission in permissions_of(key.scopes)


def check_permission(key: KeyRow, permission: Permission) -> None:
    """Raise `Forbidden`, naming the missing permission, unless the key has it."""
    if not has_permission(key, permission):
        raise Forbidden(
            f"The key {key.name!r} lacks the permission {permission.value}.",
            hint=f"Its scopes are {', '.join(key.scopes)}; use a key with scope owner.",
            key=key.id,
            permission=permission.value,
        )
