"""The snapshot: everything a gateway needs to know, as one immutable, versioned value."""

import msgspec

from penstock.spec.limits import LimitRule
from penstock.spec.masks import MaskRule
from penstock.spec.routes import KeyRow, PriceRow, Provider, Route


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Bounds that hold for every call."""

    max_body_bytes: int = 25 * 1024 * 1024
    max_file_bytes: int = 512 * 1024 * 1024
    """Of one file that a client leaves at `/v1/files`."""
    max_project_file_bytes: int = 10 * 1024 * 1024 * 1024
    """Of all files of one project."""
    max_json_depth: int = 64
    max_concurrent_calls: int = 2000
    capture_payloads: bool = True
    """Whether prompts and replies are written into spans."""
    max_payload_bytes: int = 1024 * 1024
    """Payloads over this are cut in the span (never in the call)."""
    project_capture: dict[str, bool] = {}
    """Projects whose prompts and replies are written into spans, or are not, unlike all others'."""
    masks: tuple[MaskRule, ...] = ()
    """What is made unreadable in spans before they are written."""

    def captures(self, project: str) -> bool:
        """Return whether prompts and replies of a project are written into spans."""
        return self.project_capture.get(project, self.capture_payloads)


class Snapshot(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Routes, providers, keys and limits. `digest` is over the content without `digest` and `written_ns`.

    A provider row with `local` set is called with the internal key of the installation
    (`HOME/run/internal.key`), never with a key from the environment.
    """

    digest: str
    written_ns: int
    providers: tuple[Provider, ...] = ()
    routes: tuple[Route, ...] = ()
    keys: tuple[KeyRow, ...] = ()
    limits: Limits = Limits()
    limit_rules: tuple[LimitRule, ...] = ()
    prices: tuple[PriceRow, ...] = ()
    """Prices the operator set; they win over the price table."""
    secrets: dict[str, str] = {}
    """Upstream keys by name, sealed with the installation's master key (`HOME/master.key`)."""
    redis_url_env: str | None = None
    """Variable with the URL of the Redis that gateways of several machines share; None: counters of this machine."""
