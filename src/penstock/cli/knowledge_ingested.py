"""How what an ingest did is printed: its sum, what embedding took, and everything that is not in the base."""

from collections.abc import Mapping
from typing import Any

from penstock.cli.output import printable

_WORDS = {"unreadable": "unreadable", "left_out": "left out  ", "part": "in part   "}
MAX_PROBLEMS = 20


def print_ingested(name: str, result: Mapping[str, Any]) -> None:
    """Print the result of an ingest's job; documents that could not be read come first, and are counted."""
    report = result["report"]
    print(
        f"{report['passages']} passages; documents: {report['added']} added, {report['changed']} changed, "
        f"{report['unchanged']} unchanged, {report['deleted']} deleted; embedded by {report['embedder']}"
    )
    if n_unreadable := report.get("n_unreadable"):
        print(f"{n_unreadable:,} document{'s' if n_unreadable > 1 else ''} could not be read")
    if report["embedded"]:
        print(f"embedded    {_embedding_of(report)}")
    for note in report.get("notes", []):
        print(f"note        {printable(note)}")
    for source in report.get("sources", []):
        problems = [source["error"]] if source.get("error") else source.get("problems", [])
        for problem in problems[:MAX_PROBLEMS]:
            print(f"problem     {source['source']}: {printable(problem)}")
    for dropped in report["dropped"]:
        print(
            f"{_WORDS[dropped.get('what', 'part')]}  {printable(dropped['path'])}: {printable(dropped['reason'])}"
        )
    more = report.get("n_dropped", 0) - len(report["dropped"])
    if more > 0:
        print(
            f"and {more:,} more: penstock knowledge document list {name} --state unreadable --state left_out"
        )
    if result.get("app"):
        print(f"answers as model {name!r} ({result['app']})")


def _embedding_of(report: Mapping[str, Any]) -> str:
    """Say what embedding took; what nobody knows is not told."""
    told = [f"{report['embedded']} passages"]
    if report.get("embed_tokens") is not None:
        told.append(f"{report['embed_tokens']:,} tokens")
    cost = report.get("cost_nano_usd")
    if cost:
        told.append(f"${cost / 1e9:.6f}")
    if report.get("n_in_parts"):
        told.append(f"{report['n_in_parts']} in parts, being longer than the embedder reads")
    return ", ".join(told)
