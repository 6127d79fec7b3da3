"""`penstock privacy`: export, erase, list, receipt, verify, replay. Works on a running home or a stopped one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from penstock.base.errors import InvalidInput
from penstock.base.files import write_atomic
from penstock.base.late import late_imports
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, noun_app, open_home
from penstock.cli.output import print_json, print_record, print_rows, printable
from penstock.store.spans.upkeep_types import Subject, SubjectRows
from penstock.traces.upkeep.seal import SignedReceipt

with late_imports():
    from penstock.main import upkeep_access
    from penstock.traces.upkeep import receipts as receipt_files
    from penstock.traces.upkeep import types as upkeep_types

app = noun_app("What is stored of somebody: export, erase, receipts.")
UserOption = Annotated[str | None, typer.Option(help="The id of a user, as calls name it.")]
SessionOption = Annotated[str | None, typer.Option(help="The id of a session.")]
TraceOption = Annotated[str | None, typer.Option(help="The id of a trace.")]
FileArgument = Annotated[Path, typer.Argument(metavar="RECEIPT", help="The file of a receipt.")]


@app.command(epilog="Example: penstock privacy export --user ada --out ada.zip")
def export(
    *,
    user: UserOption = None,
    session: SessionOption = None,
    trace: TraceOption = None,
    out: Annotated[Path, typer.Option(help="The ZIP file to write.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Write everything that is stored of a user, session or trace into one ZIP file."""
    opened, subject = open_home(home, as_json=as_json), _subject(user, session, trace)
    if out.exists():
        raise InvalidInput(f"{out} is there already.", hint="Name a file that does not exist.")
    partial = out.with_name(out.name + ".partial")
    try:
        with upkeep_access.open_upkeep(opened) as access:
            partial.touch(mode=0o600)
            with partial.open("wb") as file:
                for piece in access.hand_out(subject):
                    file.write(piece)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    print_record({"written": str(out), "size_bytes": out.stat().st_size}, as_json=as_json)


@app.command(epilog="Example: penstock privacy erase --user ada --reason 'ticket 4711' --receipt ada.json")
def erase(
    *,
    user: UserOption = None,
    session: SessionOption = None,
    trace: TraceOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what there is.")] = False,
    reason: Annotated[str, typer.Option(help="Why; stands in the receipt, so without a name.")] = "",
    receipt: Annotated[Path | None, typer.Option(help="Write the signed receipt to this file.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Erase everything of a user, session or trace, wherever it lies, and print the receipt."""
    opened, subject = open_home(home, as_json=as_json), _subject(user, session, trace)
    if receipt is not None and receipt.exists():
        raise InvalidInput(f"{receipt} is there already.", hint="Name a file that does not exist.")
    with upkeep_access.open_upkeep(opened) as access:
        if dry_run:
            _print_found(access.find(subject), as_json=as_json)
            return
        if not yes:
            _confirm(access, subject)
        done = access.erase(subject, reason)
        assert done.receipt is not None
        signed = access.get_receipt(done.receipt)
    if receipt is not None:
        write_receipt(receipt, signed)
    print_receipt(signed, as_json=as_json)


@app.command("list", epilog="Example: penstock privacy list")
def list_receipts(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List receipts, the newest first."""
    with upkeep_access.open_upkeep(open_home(home, as_json=as_json)) as access:
        receipts = access.list_receipts()
    rows = [
        {
            **msgspec.to_builtins(each),
            "finished": each.finished_at[:19] + "Z",
            "spans": _removed(each, "span store", "spans"),
            "left": sum(place.n for place in each.sweep.found),
        }
        for each in receipts
    ]
    columns = ("number", "finished", "kind", "spans", "left", "actor", "reason")
    print_rows(rows, columns, as_json=as_json, empty="Nothing has been erased.")


@app.command(epilog="Example: penstock privacy receipt 1 --out receipt-1.json")
def receipt(
    number: Annotated[int, typer.Argument(min=1, help="The receipt's number.")],
    *,
    out: Annotated[Path | None, typer.Option(help="Write it to this file.")] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show one receipt, or write it with its signature to a file."""
    with upkeep_access.open_upkeep(open_home(home, as_json=as_json)) as access:
        signed = access.get_receipt(number)
    if out is not None:
        if out.exists():
            raise InvalidInput(f"{out} is there already.", hint="Name a file that does not exist.")
        write_receipt(out, signed)
    print_receipt(signed, as_json=as_json)


@app.command(epilog="Example: penstock privacy verify ada.json --user ada")
def verify(
    file: FileArgument,
    *,
    user: UserOption = None,
    session: SessionOption = None,
    trace: TraceOption = None,
    alone: Annotated[bool, typer.Option("--alone", help="Only the signature; needs no home.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Check that a receipt is unchanged, this home's, and about somebody. Exit 2 if it is not."""
    signed = read_receipt(file)
    if alone:
        found = receipt_files.verify_alone(signed)
    else:
        subject = None if (user, session, trace) == (None, None, None) else _subject(user, session, trace)
        with upkeep_access.open_upkeep(open_home(home, as_json=as_json)) as access:
            found = access.verify(signed, subject)
    print_record({**msgspec.to_builtins(found), "is_good": found.is_good}, as_json=as_json)
    if not found.is_good:
        raise typer.Exit(2)


@app.command(epilog="Example: penstock privacy replay receipt-7.json --home ./restored")
def replay(
    files: Annotated[list[Path], typer.Argument(metavar="RECEIPT…", help="Files of receipts.")],
    *,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Erase again what receipts say was erased: for a home restored from a backup that is older than they are."""
    receipts = [read_receipt(file) for file in files]
    with upkeep_access.open_upkeep(open_home(home, as_json=as_json)) as access:
        rows = [
            {"file": str(file), "erased": len(done), "receipts": [str(each.receipt) for each in done]}
            for file, signed in zip(files, receipts, strict=True)
            if (done := access.replay(signed)) is not None
        ]
    print_rows(rows, ("file", "erased", "receipts"), as_json=as_json)


def _subject(user: str | None, session: str | None, trace: str | None) -> Subject:
    if [user, session, trace].count(None) != 2:
        raise InvalidInput("Say whose or which.", hint="Use one of --user, --session and --trace.")
    if user is not None:
        return Subject(kind="user", id=user)
    return (
        Subject(kind="session", id=session) if session is not None else Subject(kind="trace", id=str(trace))
    )


def _confirm(access: upkeep_access.PrivacyAccess, subject: Subject) -> None:
    found = access.find(subject)
    told = f"{len(found.trace_ids)} traces with {found.n_spans} spans, {found.n_scores} scores"
    if not sys.stdin.isatty():
        raise InvalidInput(f"This would erase {told}.", hint="Add --yes where nobody can be asked.")
    typer.confirm(f"Erase {told}? Nobody can bring it back.", abort=True, err=True)


def _print_found(found: SubjectRows, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    rows = {
        "traces": len(found.trace_ids),
        "spans": found.n_spans,
        "payloads": found.n_payloads,
        "scores": found.n_scores,
        "ledger rows": found.n_ledger_rows,
    }
    print_record(rows, as_json=False)


def print_receipt(signed: SignedReceipt, *, as_json: bool) -> None:
    """Show what a receipt says."""
    if as_json:
        print_json(signed)
        return
    receipt = receipt_files.read_content(signed.content)
    told = {
        "receipt": receipt.number,
        "finished": receipt.finished_at[:19] + "Z",
        receipt.kind: f"digest {receipt.subject_digest}",
        "actor": receipt.actor,
        "reason": receipt.reason or None,
        "digest": signed.digest,
    }
    print_record(told, as_json=False)
    for place in receipt.places:
        removed = ", ".join(f"{n} {what}" for what, n in place.removed.items()) or "-"
        print(
            f"  {printable(place.place)}: {printable(removed)}" + (f" ({place.note})" if place.note else "")
        )
    seen = receipt.sweep
    if seen.skipped is not None:
        print(f"  not looked for in the files: {printable(seen.skipped)}")
    else:
        print(f"  looked through {seen.n_files} files, {seen.n_bytes} bytes: found in {len(seen.found)}")
    for how in seen.how:
        print(f"    {printable(how)}")
    for found in seen.found:
        print(f"    {printable(found.file)}: {found.n} times")
    print("  beyond reach:")
    for text in receipt.beyond_reach:
        print(f"    {printable(text)}")


def _removed(receipt: upkeep_types.Receipt, place: str, what: str) -> int:
    return sum(each.removed.get(what, 0) for each in receipt.places if each.place == place)


def read_receipt(file: Path) -> SignedReceipt:
    """Return the receipt in a file."""
    try:
        return receipt_files.read_signed(file.read_bytes())
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror}.") from error


def write_receipt(file: Path, signed: SignedReceipt) -> None:
    """Write a receipt with its signature to a file."""
    write_atomic(file, msgspec.json.format(msgspec.json.encode(signed), indent=2) + b"\n", mode=0o600)
