"""Errors of erasing documents."""

from penstock.base.errors import ConflictError, InvalidInput, NotFound


class BadTarget(InvalidInput):
    """What is to be erased is not named in a way that can be looked for."""

    code = "PS-1560"


class UnknownErasure(NotFound):
    """No erasure of documents has this id."""

    code = "PS-1561"


class NothingFound(NotFound):
    """Nothing of what is to be erased is there, so nobody would get a receipt of an erasure."""

    code = "PS-1562"


class ErasureWaits(ConflictError):
    """Others are at work on the same files; the erasure is kept and tried again."""

    code = "PS-3560"
