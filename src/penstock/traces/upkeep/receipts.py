"""Receipts of erasure: numbered, signed, each with the digest of the one before it, so that none can be changed or left out."""

from collections.abc import Callable

import msgspec
from sqlalchemy import Engine, desc, insert, select

from penstock.base.clock import now_ns as wall_clock
from penstock.store.control.tables.privacy import privacy_receipts
from penstock.store.spans.upkeep_types import Subject
from penstock.traces.upkeep.errors import ReceiptInvalid, UnknownErasure
from penstock.traces.upkeep.seal import PrivacyKey, SignedReceipt, is_signed_by
from penstock.traces.upkeep.types import Receipt, Verification

FORMAT = 1


class ReceiptBook:
    """The receipts of one installation. Every method may be called from any thread."""

    def __init__(self, engine: Engine, key: PrivacyKey, *, now_ns: Callable[[], int] = wall_clock) -> None:
        self._engine = engine
        self._key = key
        self._now_ns = now_ns

    def write(self, build: Callable[[int, str | None], Receipt]) -> SignedReceipt:
        """Sign and keep what `build(number, digest of the one before)` returns."""
        with self._engine.begin() as connection:
            last = connection.execute(
                select(privacy_receipts.c.number, privacy_receipts.c.digest).order_by(
                    desc(privacy_receipts.c.number)
                )
            ).first()
            number, previous = (1, None) if last is None else (last.number + 1, last.digest)
            content = msgspec.json.encode(build(number, previous), order="deterministic").decode()
            signed = self._key.sign(content)
            connection.execute(
                insert(privacy_receipts).values(
                    number=number, created_ns=self._now_ns(), digest=signed.digest, content=content
                )
            )
        return signed

    def list(self, *, limit: int = 100) -> list[Receipt]:
        """Return the newest receipts."""
        query = select(privacy_receipts.c.content).order_by(desc(privacy_receipts.c.number)).limit(limit)
        with self._engine.connect() as connection:
            return [read_content(row.content) for row in connection.execute(query)]

    def get(self, number: int) -> SignedReceipt:
        """Return a receipt with its signature; raise `UnknownErasure`."""
        content = self._content(number)
        if content is None:
            raise UnknownErasure(f"There is no receipt {number}.")
        return self._key.sign(content)

    def verify(self, signed: SignedReceipt, subject: Subject | None = None) -> Verification:
        """Check a receipt against this installation's key and chain, and whether it is about a subject."""
        found = verify_alone(signed)
        problems = list(found.problems)
        is_ours = signed.public_key == self._key.public_key
        if not is_ours:
            problems.append("another installation signed it")
        in_chain = is_ours and self._stands_in_chain(signed, found.number)
        if is_ours and not in_chain:
            problems.append("it does not stand in this installation's chain of receipts")
        is_of_subject = None
        if subject is not None:
            receipt = read_content(signed.content)
            digest = self._key.digest(subject.kind, subject.id)
            is_of_subject = (receipt.kind, receipt.subject_digest) == (subject.kind, digest)
            if not is_of_subject:
                problems.append(f"it is not about this {subject.kind}")
        return Verification(
            number=found.number,
            is_signed=found.is_signed,
            is_ours=is_ours,
            is_in_chain=in_chain,
            is_of_subject=is_of_subject,
            problems=problems,
        )

    def _stands_in_chain(self, signed: SignedReceipt, number: int) -> bool:
        """Return whether the receipt is the one kept here, and every one up to it names the one before."""
        query = select(privacy_receipts).order_by(privacy_receipts.c.number)
        previous: str | None = None
        with self._engine.connect() as connection:
            for expected, row in enumerate(connection.execute(query), 1):
                receipt = read_content(row.content)
                if (row.number, receipt.number, receipt.previous) != (expected, expected, previous):
                    return False
                previous = self._key.sign(row.content).digest
                if previous != row.digest:
                    return False
                if row.number == number:
                    return bool(row.digest == signed.digest)
        return False

    def _content(self, number: int) -> str | None:
        query = select(privacy_receipts.c.content).where(privacy_receipts.c.number == number)
        with self._engine.connect() as connection:
            found: str | None = connection.execute(query).scalar()
        return found


def verify_alone(signed: SignedReceipt) -> Verification:
    """Check the signature with the key that the receipt brings, without any installation."""
    receipt = read_content(signed.content)
    is_signed = is_signed_by(signed, signed.public_key)
    return Verification(
        number=receipt.number,
        is_signed=is_signed,
        is_ours=None,
        is_in_chain=None,
        is_of_subject=None,
        problems=[] if is_signed else ["it was changed after it was signed"],
    )


def read_signed(data: bytes) -> SignedReceipt:
    """Return the receipt that a file holds; raise `ReceiptInvalid`."""
    try:
        signed = msgspec.json.decode(data, type=SignedReceipt)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise ReceiptInvalid(
            f"This is no receipt: {error}.", hint="`penstock privacy receipt N` writes one."
        ) from error
    read_content(signed.content)
    return signed


def read_content(content: str) -> Receipt:
    """Return what a receipt says; raise `ReceiptInvalid`."""
    try:
        return msgspec.json.decode(content.encode(), type=Receipt)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise ReceiptInvalid(f"The receipt cannot be read: {error}.") from error
