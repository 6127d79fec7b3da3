"""`penstock knowledge`: erase, receipts, check-receipt, kept-out, let-in, replay. On a running home or a stopped one.

`register(app)` adds the verbs to the noun.
"""

import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from penstock.base.clock import iso_from_ns
from penstock.base.errors import InvalidInput
from penstock.base.late import late_imports
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, open_home
from penstock.cli.output import print_json, print_record, print_rows
from penstock.cli.privacy import print_receipt, read_receipt, write_receipt
from penstock.knowledge.erasure.types import FoundTarget, Target, TargetKind

with late_imports():
    from penstock.main import upkeep_access
    from penstock.traces.upkeep import document_receipts

BaseArgument = Annotated[
    str | None, typer.Argument(metavar="NAME", help="The knowledge base; without it all of them.")
]
DocumentOption = Annotated[str | None, typer.Option(help="The path of a document in the base.")]
SubjectOption = Annotated[str | None, typer.Option(help="Somebody whom documents name as a subject.")]
TextOption = Annotated[str | None, typer.Option(help="A text; every document that holds it goes.")]
UserOption = Annotated[
    str | None, typer.Option(help="The id of a user: documents about them, and what they judged.")
]


def register(app: typer.Typer) -> None:
    """Add the verbs to `penstock knowledge`."""
    example = "Example: penstock knowledge"
    app.command(epilog=f"{example} erase handbook --document staff/ada.md --reason 'ticket 4711' --yes")(
        erase
    )
    app.command(epilog=f"{example} receipts")(receipts)
    app.command("check-receipt", epilog=f"{example} check-receipt ada.json handbook --document staff/ada.md")(
        check_receipt
    )
    app.command("kept-out", epilog=f"{example} kept-out handbook")(kept_out)
    app.command("let-in", epilog=f"{example} let-in handbook staff/ada.md")(let_in)
    app.command(epilog=f"{example} replay ada.json --home ./restored")(replay)


def erase(
    name: BaseArgument = None,
    *,
    document: DocumentOption = None,
    subject: SubjectOption = None,
    text: TextOption = None,
    user: UserOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what there is.")] = False,
    reason: Annotated[str, typer.Option(help="Why; stands in the receipt, so without a name.")] = "",
    keep_out: Annotated[
        bool, typer.Option(help="Keep the document's path out too, whatever comes there later.")
    ] = True,
    receipt: Annotated[Path | None, typer.Option(help="Write the signed receipt to this file.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Erase documents with everything said of them, keep them out of later ingests, and print the receipt."""
    opened, target = open_home(home, as_json=as_json), _target(name, document, subject, text, user)
    if receipt is not None and receipt.exists():
        raise InvalidInput(f"{receipt} is there already.", hint="Name a file that does not exist.")
    with upkeep_access.open_upkeep(opened) as access:
        if dry_run or not yes:
            found = access.documents.find(target)
            if dry_run:
                _print_found(found, as_json=as_json)
                return
            _confirm(found)
        done = access.documents.erase(target, reason, keep_out=keep_out)
        assert done.receipt is not None
        signed = access.get_receipt(done.receipt)
    if receipt is not None:
        write_receipt(receipt, signed)
    print_receipt(signed, as_json=as_json)


def receipts(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List receipts of documents that were erased, the newest first. `penstock privacy receipt N` shows one."""
    with upkeep_access.open_upkeep(open_home(home, as_json=as_json)) as access:
        found = [each for each in access.list_receipts() if each.kind.startswith(document_receipts.DOCUMENTS)]
    rows = [
        {
            **msgspec.to_builtins(each),
            "finished": each.finished_at[:19] + "Z",
            "kind": each.kind.removeprefix(document_receipts.DOCUMENTS),
            "documents": sum(place.removed.get("documents", 0) for place in each.places),
            "left": sum(place.n for place in each.sweep.found),
        }
        for each in found
    ]
    columns = ("number", "finished", "kind", "documents", "left", "actor", "reason")
    print_rows(rows, columns, as_json=as_json, empty="No document has been erased.")


def check_receipt(
    file: Annotated[Path, typer.Argument(metavar="RECEIPT", help="The file of a receipt.")],
    name: BaseArgument = None,
    *,
    document: DocumentOption = None,
    subject: SubjectOption = None,
    text: TextOption = None,
    user: UserOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Check that a receipt is unchanged, this home's, and about what is named. Exit 2 if it is not."""
    signed = read_receipt(file)
    is_named = (document, subject, text, user) != (None, None, None, None)
    target = _target(name, document, subject, text, user) if is_named else None
    with upkeep_access.open_upkeep(open_home(home, as_json=as_json)) as access:
        found = access.documents.verify(signed, target)
    print_record({**msgspec.to_builtins(found), "is_good": found.is_good}, as_json=as_json)
    if not found.is_good:
        raise typer.Exit(2)


def kept_out(name: BaseArgument = None, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List what was erased and no ingest brings back. The list names nothing: it holds keyed digests."""
    with upkeep_access.open_upkeep(open_home(home, as_json=as_json)) as access:
        found = access.documents.kept_out(name)
    rows = [{**msgspec.to_builtins(each), "erased": iso_from_ns(each.erased_ns)[:10]} for each in found]
    print_rows(
        rows, ("base", "kind", "erased", "erasure", "digest"), as_json=as_json, empty="Nothing is kept out."
    )


def let_in(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The knowledge base.")],
    what: Annotated[str, typer.Argument(metavar="PATH", help="A path, or a digest of the list.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Let something that was erased come in again with the next ingest."""
    with upkeep_access.open_upkeep(open_home(home, as_json=as_json)) as access:
        n_before = len(access.documents.kept_out(name))
        n_after = len(access.documents.kept_out(name, let_in=what))
    if n_before == n_after:
        raise InvalidInput(
            "The list holds nothing of that name.", hint=f"See penstock knowledge kept-out {name}."
        )
    print_record({"let_in": n_before - n_after, "still_kept_out": n_after}, as_json=as_json)


def replay(
    files: Annotated[list[Path], typer.Argument(metavar="RECEIPT…", help="Files of receipts.")],
    *,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Erase again what receipts say was erased: for a home restored from a backup that is older than they are."""
    signed = [read_receipt(file) for file in files]
    rows = []
    with upkeep_access.open_upkeep(open_home(home, as_json=as_json)) as access:
        for file, each in zip(files, signed, strict=True):
            done = access.documents.replay(each)
            rows.append(
                {"file": str(file), "erased": len(done), "receipts": [str(one.receipt) for one in done]}
            )
    print_rows(rows, ("file", "erased", "receipts"), as_json=as_json)


def _target(
    name: str | None, document: str | None, subject: str | None, text: str | None, user: str | None
) -> Target:
    told: dict[TargetKind, str | None] = {
        "document": document,
        "subject": subject,
        "text": text,
        "user": user,
    }
    named = [(kind, value) for kind, value in told.items() if value is not None]
    if len(named) != 1:
        raise InvalidInput(
            "Say what is to be erased.", hint="Use one of --document, --subject, --text and --user."
        )
    return Target(kind=named[0][0], value=named[0][1], base=name)


def _confirm(found: FoundTarget) -> None:
    told = f"{len(found.documents)} documents with everything said of them"
    if not sys.stdin.isatty():
        raise InvalidInput(f"This would erase {told}.", hint="Add --yes where nobody can be asked.")
    typer.confirm(f"Erase {told}? Nobody can bring it back.", abort=True, err=True)


def _print_found(found: FoundTarget, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    rows = [
        {
            "base": each.base,
            "path": each.path,
            "versions": len(each.versions),
            "passages": each.n_passages,
            "generations": each.n_generations,
            "same bytes": ", ".join(each.same_bytes),
        }
        for each in found.documents
    ]
    columns = ("base", "path", "versions", "passages", "generations", "same bytes")
    print_rows(rows, columns, as_json=False, empty="No document is of that.")
    if found.n_judgements:
        print(f"judgements of search results: {found.n_judgements}")
