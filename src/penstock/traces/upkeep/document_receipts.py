"""Receipts of documents that were erased: in the same book and chain as those of people, told apart by their kind.

What a document is, and how its digest is made, is another room's; it passes that in.
"""

from collections.abc import Callable
from typing import Protocol, TypeVar

import msgspec

from penstock.traces.upkeep.errors import ReceiptInvalid
from penstock.traces.upkeep.receipts import ReceiptBook, read_content
from penstock.traces.upkeep.seal import SignedReceipt
from penstock.traces.upkeep.types import Receipt, Verification

DOCUMENTS = "knowledge "
"""Begins the kind of a receipt of documents."""


class Named(Protocol):
    """What a receipt may be about."""

    @property
    def kind(self) -> str:
        """Such as `document`."""


Target = TypeVar("Target", bound=Named)


def check_receipt(
    book: ReceiptBook, signed: SignedReceipt, target: Target | None, digest_of: Callable[[Target], str]
) -> Verification:
    """Check a receipt against this installation, and whether it is about what was named."""
    found = book.verify(signed)
    if target is None:
        return found
    content = read_content(signed.content)
    is_of = (content.kind, content.subject_digest) == (DOCUMENTS + target.kind, digest_of(target))
    problems = found.problems if is_of else [*found.problems, f"it is not about this {target.kind}"]
    return msgspec.structs.replace(found, is_of_subject=is_of, problems=problems)


def require_own(book: ReceiptBook, signed: SignedReceipt) -> Receipt:
    """Return what a receipt of documents says; raise `ReceiptInvalid` unless this installation signed it."""
    found, content = book.verify(signed), read_content(signed.content)
    if not (found.is_signed and found.is_ours) or not content.kind.startswith(DOCUMENTS):
        raise ReceiptInvalid(
            "This is no receipt of documents that this installation signed.",
            hint="Only receipts of the home that the backup was made of can be carried out again.",
        )
    return content


def tell_replay(content: Receipt) -> str:
    """Return the reason of an erasure that is carried out again."""
    return f"again, after receipt {content.number} of {content.finished_at[:10]}"
