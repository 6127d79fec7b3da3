"""`penstock cache`: stats, purge. Works on the file of this home and, where replies are shared, on the Redis."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from penstock.base.errors import InvalidInput
from penstock.base.late import late_imports
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, noun_app, open_home
from penstock.cli.output import print_json, print_record, print_rows
from penstock.deploy.snapshots import read_snapshot

with late_imports():
    from penstock.deploy import kept_replies

app = noun_app("Replies that are given again: stats, purge.")


@app.command("stats", epilog="Example: penstock cache stats")
def show_stats(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show how often the cache answered, by route, and how often answers by meaning may be wrong."""
    stats = _open(home, as_json=as_json).stats()
    if as_json:
        print_json(stats)
        return
    kept = f"{stats.entries} replies, {stats.size_bytes / 1e6:.1f} MB of {stats.max_bytes / 1e6:.0f} MB"
    print_record({"kept here": kept, "shared": "in Redis" if stats.shared else "no"}, as_json=False)
    print()
    rows = [
        {
            "route": route.route,
            "hits": route.hits,
            "by meaning": route.semantic,
            "in flight": route.shared,
            "misses": route.misses,
            "bypassed": route.bypassed,
            "hit ratio": "" if route.hit_ratio is None else f"{route.hit_ratio:.1%}",
            "false hits": _describe(route.false_hits),
        }
        for route in stats.routes
    ]
    columns = ("route", "hits", "by meaning", "in flight", "misses", "bypassed", "hit ratio", "false hits")
    print_rows(rows, columns, as_json=False, empty='No calls yet: a route needs cache.mode = "exact".')


@app.command("purge", epilog="Example: penstock cache purge --route support")
def purge(
    *,
    route: Annotated[str | None, typer.Option(help="Forget the replies of this route.")] = None,
    project: Annotated[str | None, typer.Option(help="Forget the replies of this project.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Forget all replies.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Forget what was kept until now; running gateways heed it at once."""
    if [route is not None, project is not None, everything].count(True) != 1:
        raise InvalidInput("Say what to forget.", hint="Use one of --route, --project and --all.")
    mark = _open(home, as_json=as_json).purge(route=route, project=project)
    print_record({"purged": mark.text()}, as_json=as_json)


def _open(folder: Path, *, as_json: bool) -> kept_replies.ResponseCacheService:
    home = open_home(folder, as_json=as_json)
    return kept_replies.ResponseCacheService(home.cache, lambda: read_snapshot(home.snapshot), os.environ)


def _describe(found: kept_replies.FalseHits | None) -> str:
    if found is None:
        return ""
    return f"{found.share:.1%} ({found.low:.1%} to {found.high:.1%}, {found.checked} checked)"
