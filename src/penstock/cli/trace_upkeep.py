"""`penstock traces expire` and `compact`: what goes by age, and writing the store anew."""

from __future__ import annotations

from typing import Annotated

import typer

from penstock.base.late import late_imports
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, open_home
from penstock.cli.output import print_json, print_record

with late_imports():
    from penstock.main import upkeep_access
    from penstock.traces.upkeep import retention

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only count.")]


def expire(
    *, dry_run: DryRunOption = False, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False
) -> None:
    """Delete what `[traces.retention]` calls too old; a running Penstock does so by itself once a day."""
    with upkeep_access.open_upkeep(open_home(home, as_json=as_json)) as access:
        policy = access.report().policy
        found = access.count_old() if dry_run else access.expire()
    if as_json:
        print_json(found)
        return
    print_record(
        {
            "rule": _describe(policy.usual),
            **{f"project {name}": _describe(ages) for name, ages in policy.projects.items()},
            "payloads": found.n_payloads,
            "traces": found.n_traces,
            "spans": found.n_spans,
            "done": "only counted" if dry_run else found.is_done,
        },
        as_json=False,
    )


def compact(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Write the span store anew: it becomes smaller, and nothing of what was deleted is left in it."""
    with upkeep_access.open_upkeep(open_home(home, as_json=as_json)) as access:
        done = access.compact()
    if as_json:
        print_json(done)
        return
    told = {"before": f"{done.size_before / 1e6:.1f} MB", "after": f"{done.size_after / 1e6:.1f} MB"}
    print_record({**told, "spans": done.n_spans}, as_json=False)


def _describe(ages: retention.Ages) -> str:
    payloads = f"{ages.payload_days} days" if ages.payload_days else "for good"
    spans = f"{ages.span_days} days" if ages.span_days else "for good"
    return f"payloads {payloads}, traces {spans}"
