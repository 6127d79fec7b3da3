"""`penstock dataset dedupe|decontaminate|scrub|profile|sheet|propose|proposals|accept|reject`: clean data, and more of it.

`register(app)` adds the verbs to the noun.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from penstock.base.errors import InvalidInput
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, open_home
from penstock.cli.output import print_json, print_lines, print_record, printable
from penstock.main.control_client import ControlClient
from penstock.spec.home import Home

WORK_TIMEOUT_S = 1800.0
"""Cleaning goes through every row before it answers."""
DatasetArgument = Annotated[str, typer.Argument(help="NAME or NAME@VERSION; the newest version unless told.")]
ReportOption = Annotated[bool, typer.Option("--report", help="Tell what would go, and make no version.")]
NoteOption = Annotated[str, typer.Option(help="Why, for the version.")]
PartOption = Annotated[
    Literal["inputs", "answers", "all"],
    typer.Option(help="What of a row is compared: inputs, answers or all."),
]
NearOption = Annotated[
    bool, typer.Option("--near/--exact", help="Near-duplicates too, or exactly the same alone.")
]
ThresholdOption = Annotated[
    float, typer.Option(min=0.3, max=1.0, help="Similarity from which two texts count as the same.")
]
KindOption = Annotated[
    list[str] | None,
    typer.Option(
        "--kind", help="email, phone, iban, credit_card, ip, national_id, api_key; all unless told."
    ),
]
IdsArgument = Annotated[list[str], typer.Argument(help="Ids of proposals.")]


def register(app: typer.Typer) -> None:
    """Add the verbs to `penstock dataset`."""
    for name, command, example in _COMMANDS:
        app.command(name, epilog=f"Example: penstock dataset {example}")(command)


def dedupe(
    dataset: DatasetArgument,
    *,
    part: PartOption = "all",
    near: NearOption = True,
    threshold: ThresholdOption = 0.8,
    report: ReportOption = False,
    note: NoteOption = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Drop rows that say what an earlier row says; the first one stays."""
    body = {"part": part, "near": near, "threshold": threshold, "report": report, "note": note}
    told = _post(open_home(home, as_json=as_json), dataset, "dedupe", body)
    if as_json:
        print_json(told)
        return
    found = told["report"]
    print(f"{found['n_exact']} exact and {found['n_near']} near duplicates of {found['n_rows']:,} rows")
    if found["n_other_answer"]:
        print(f"{found['n_other_answer']} more look alike but answer otherwise: they stay")
    for cluster in found["clusters"][:10]:
        others = ", ".join(f"{each['id']} ({each['similarity']:.2f})" for each in cluster["rows"][:5])
        print(f"  {printable(cluster['kept'])} stays for {printable(others)}")
    _tell_version(told, report=report)


def decontaminate(
    dataset: DatasetArgument,
    *,
    held: Annotated[str, typer.Option(help="The split that is held out.")] = "test",
    other: Annotated[
        str | None, typer.Option(help="The split it is held against; every other row unless told.")
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(help="Another dataset whose rows must not be in this one. May be repeated."),
    ] = None,
    lose: Annotated[Literal["other", "held"], typer.Option(help="Which side loses its rows.")] = "other",
    part: PartOption = "inputs",
    ngram: Annotated[int, typer.Option(min=2, max=50, help="Words of an n-gram.")] = 8,
    overlap: Annotated[
        float,
        typer.Option(min=0.1, max=1.0, help="Share of a held-out row's n-grams that one row must hold."),
    ] = 0.8,
    near: NearOption = True,
    threshold: ThresholdOption = 0.8,
    report: ReportOption = False,
    note: NoteOption = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Drop rows that stand among the held-out ones too, so that nothing is trained on what it is tested by."""
    body = {
        "held": held,
        "other": other,
        "against": against or [],
        "lose": lose,
        "part": part,
        "n": ngram,
        "overlap": overlap,
        "near": near,
        "threshold": threshold,
        "report": report,
        "note": note,
    }
    told = _post(open_home(home, as_json=as_json), dataset, "decontaminate", body)
    if as_json:
        print_json(told)
        return
    found = told["report"]
    print(
        f"{found['n_held_contaminated']} of {found['n_held']:,} held-out rows stand in "
        f"{found['n_other_contaminated']} of {found['n_other']:,} others"
    )
    for each in found["contacts"][:10]:
        print(
            f"  {printable(each['held'])} in {printable(each['other'])}: {each['kind']} {each['share']:.2f}"
        )
    if found["n_common_ngrams"]:
        print(
            f"{found['n_common_ngrams']} n-grams that many held-out rows share prove nothing and were left out"
        )
    _tell_version(told, report=report)


def scrub(
    dataset: DatasetArgument,
    *,
    kind: KindOption = None,
    report: ReportOption = False,
    note: NoteOption = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Replace personal data by the name of its kind, such as [email]. Names of people are not found."""
    opened = open_home(home, as_json=as_json)
    told = _post(opened, dataset, "scrub", {"kinds": kind or [], "report": report, "note": note})
    where: dict[str, Any] = {"findings": []}
    if report:
        name, version = _split(dataset)
        where = ControlClient(opened).get(f"/api/v1/datasets/{name}/personal", version=version, kind=kind)
    if as_json:
        print_json({**told, **({"findings": where["findings"]} if report else {})})
        return
    found = told["report"]
    print(f"{found['n_rows_with']} of {found['n_rows']:,} rows hold personal data. {found['note']}")
    for name, n in found["replaced"].items():
        print(f"  {name}  {n}")
    for each in where["findings"]:
        examples, ids = ", ".join(each["examples"]), ", ".join(each["row_ids"][:5])
        print(
            f"  {printable(each['path'])}: {each['n_rows']} rows such as {printable(ids)}: {printable(examples)}"
        )
    _tell_version(told, report=report)


def profile(
    dataset: DatasetArgument, *, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False
) -> None:
    """Show lengths, languages, labels, and rows that a person should look at."""
    name, version = _split(dataset)
    found = ControlClient(open_home(home, as_json=as_json)).get(
        f"/api/v1/datasets/{name}/profile", version=version
    )
    if as_json:
        print_json(found)
        return
    record: dict[str, Any] = {"rows": found["n_rows"]}
    for side in ("question", "answer"):
        lengths = found[f"{side}_chars"]
        record[f"{side} characters"] = " / ".join(
            "-" if lengths[each] is None else f"{lengths[each]:,}" for each in ("min", "median", "p95", "max")
        )
    record["languages"] = ", ".join(f"{name} {n}" for name, n in found["languages"].items())
    if found["labels"]:
        record["labels"] = ", ".join(f"{name} {n}" for name, n in list(found["labels"].items())[:12])
    for each in found["notes"]:
        record[each["kind"]] = f"{each['n_rows']} rows: {', '.join(each['row_ids'][:5])}"
    print_record(record, as_json=False)
    for remark in found["remarks"]:
        print(printable(remark))


def sheet(
    dataset: DatasetArgument,
    *,
    shared: Annotated[
        bool, typer.Option("--shared", help="Look for its rows in every other dataset of this home.")
    ] = False,
    to: Annotated[Path | None, typer.Option(help="File to write; standard output unless told.")] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Write the datasheet: sources, counts, steps, personal data, lineage, as Markdown."""
    name, version = _split(dataset)
    client = ControlClient(open_home(home, as_json=as_json))
    query = {"version": version, "shared": "true" if shared else None}
    if as_json:
        print_json(client.get(f"/api/v1/datasets/{name}/sheet", **query))
        return
    pieces = client.stream(
        f"/api/v1/datasets/{name}/sheet",
        form="markdown",
        **{key: value for key, value in query.items() if value is not None},
    )
    text = b"".join(pieces).decode()
    if to is None:
        print(text, end="")
    else:
        to.write_text(text)
        print(f"written to {to}")


def propose(
    dataset: DatasetArgument,
    *,
    kind: Annotated[
        Literal["paraphrase", "harder", "adversarial", "translate", "questions"],
        typer.Option(help="Variants of rows, or questions about passages."),
    ] = "paraphrase",
    model: Annotated[str, typer.Option(help="A route of the gateway.")],
    n: Annotated[int, typer.Option("-n", min=1, max=2000, help="How many at most.")] = 20,
    per_call: Annotated[int, typer.Option(min=1, max=20, help="Asked for at once.")] = 4,
    language: Annotated[str | None, typer.Option(help="Of translations.")] = None,
    knowledge: Annotated[
        str | None,
        typer.Option(help="Knowledge base to ask questions about; the rows' own passages unless told."),
    ] = None,
    where: Annotated[str | None, typer.Option(help="Which rows are seeds, such as 'split:train'.")] = None,
    seed: Annotated[int, typer.Option(help="Draws the seeds.")] = 0,
    temperature: Annotated[
        float | None, typer.Option(min=0, max=2, help="Of the model that proposes.")
    ] = None,
    budget: Annotated[str | None, typer.Option(help="US dollars that are never passed.")] = None,
    max_calls: Annotated[int | None, typer.Option(min=1, help="Calls at most.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell calls and cost, and ask nothing.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Have a model propose rows. Nothing becomes a row before somebody accepts it."""
    name, version = _split(dataset)
    body = {
        "version": version,
        "kind": kind,
        "model": model,
        "n": n,
        "per_call": per_call,
        "language": language,
        "knowledge": knowledge,
        "where": where,
        "seed": seed,
        "temperature": temperature,
        "budget_usd": budget,
        "max_calls": max_calls,
        "plan": dry_run,
    }
    told = ControlClient(open_home(home, as_json=as_json)).post(f"/api/v1/datasets/{name}/propose", body)
    if as_json:
        print_json(told)
    elif dry_run:
        plan = told["plan"]
        cost = "unknown" if plan["cost_usd"] is None else f"{float(plan['cost_usd']):.4f} US dollars"
        print(f"{plan['n_calls']} calls for at most {plan['n_proposals']} proposals from {plan['ref']}")
        print(f"about {plan['input_tokens']:,} tokens in and {plan['output_tokens']:,} out; cost {cost}")
    else:
        print(f"job {told['job']}: penstock job logs {told['job']}")
        print(f"then review: penstock dataset proposals {name}")


def proposals(
    dataset: Annotated[str | None, typer.Argument(help="NAME; all datasets unless told.")] = None,
    *,
    state: Annotated[
        Literal["pending", "accepted", "added", "rejected", "all"], typer.Option(help="Which ones.")
    ] = "pending",
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many.")] = 50,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List proposals, oldest first."""
    client = ControlClient(open_home(home, as_json=as_json))
    page = client.get("/api/v1/dataset-proposals", dataset=dataset, state=state, limit=limit)
    if as_json:
        print_json(page)
        return
    rows = [
        {
            "id": each["id"],
            "dataset": each["dataset"],
            "kind": each["kind"],
            "state": each["state"],
            "proposed": json.dumps(each["fields"], ensure_ascii=False),
        }
        for each in page["proposals"]
    ]
    print_lines(
        rows,
        ("id", "dataset", "kind", "state", "proposed"),
        give_up=("state", "dataset", "kind"),
        shorten="proposed",
        empty="None waits: penstock dataset propose NAME --model ROUTE",
    )


def accept(
    ids: IdsArgument,
    *,
    fields: Annotated[
        str | None,
        typer.Option(help="JSON object that takes the place of the fields; for a single proposal."),
    ] = None,
    add: Annotated[bool, typer.Option("--add/--no-add", help="Make the version with them at once.")] = True,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Accept proposals and add them to their dataset as one new version."""
    if fields is not None and len(ids) != 1:
        raise InvalidInput("--fields edits one proposal at a time.")
    body: dict[str, Any] = {} if fields is None else {"fields": _object(fields)}
    client = ControlClient(open_home(home, as_json=as_json))
    accepted = [client.post(f"/api/v1/dataset-proposals/{each}/accept", body) for each in ids]
    versions = []
    if add:
        names = dict.fromkeys(each["dataset"] for each in accepted)
        for name in names:
            chosen = [each["id"] for each in accepted if each["dataset"] == name]
            path = f"/api/v1/datasets/{name}/proposals/add"
            versions.append(client.post(path, {"ids": chosen}, timeout_s=WORK_TIMEOUT_S))
    if as_json:
        print_json({"accepted": accepted, "versions": versions})
        return
    print(f"{len(accepted)} accepted")
    for each in versions:
        print(f"{each['ref']}: {each['facts']['n_rows']:,} rows")


def reject(
    ids: IdsArgument,
    *,
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Reject proposals."""
    client = ControlClient(open_home(home, as_json=as_json))
    rejected = [client.post(f"/api/v1/dataset-proposals/{each}/reject", {"reason": reason}) for each in ids]
    print_json({"rejected": rejected}) if as_json else print(f"{len(rejected)} rejected")


def _post(home: Home, dataset: str, verb: str, body: dict[str, Any]) -> dict[str, Any]:
    name, version = _split(dataset)
    told: dict[str, Any] = ControlClient(home).post(
        f"/api/v1/datasets/{name}/{verb}", {"version": version, **body}, timeout_s=WORK_TIMEOUT_S
    )
    return told


def _split(dataset: str) -> tuple[str, str]:
    name, _, version = dataset.removeprefix("dataset:").partition("@")
    if not name or "/" in name or "?" in name:
        raise InvalidInput(f"{dataset!r} names no dataset.", hint="Write NAME or NAME@3.")
    return name, version or "latest"


def _tell_version(told: dict[str, Any], *, report: bool) -> None:
    version = told["version"]
    if version is not None:
        print(f"{version['ref']}: {version['facts']['n_rows']:,} rows")
    elif report and told["n_removed"]:
        print(
            f"{told['n_removed']} rows of {told['base']} would be concerned; without --report a version is made"
        )
    else:
        print(f"nothing to do: {told['base']} stays the newest")


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"--fields is no JSON: {error}.") from error
    if not isinstance(value, dict):
        raise InvalidInput("--fields is a JSON object.")
    return value


_COMMANDS = (
    ("dedupe", dedupe, "dedupe questions --report"),
    ("decontaminate", decontaminate, "decontaminate questions --held test --other train"),
    ("scrub", scrub, "scrub questions --kind email --kind phone"),
    ("profile", profile, "profile questions@3"),
    ("sheet", sheet, "sheet questions@3 --to SHEET.md"),
    ("propose", propose, "propose questions --kind paraphrase --model pocket -n 20 --dry-run"),
    ("proposals", proposals, "proposals questions"),
    ("accept", accept, "accept prop_1 prop_2"),
    ("reject", reject, "reject prop_3 --reason 'not answerable'"),
)
