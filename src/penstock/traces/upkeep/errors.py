"""Errors of upkeep and privacy."""

from penstock.base.errors import CallerError, ConflictError, InvalidInput, NotFound


class UnknownErasure(NotFound):
    """No erasure or receipt has this id."""

    code = "PS-1760"


class BadSubject(InvalidInput):
    """What is to be erased or handed out is not named in a way that can be looked for."""

    code = "PS-1761"


class ReceiptInvalid(CallerError):
    """A receipt cannot be read, or it is not what was signed."""

    code = "PS-1762"


class ErasureUnderWay(ConflictError):
    """The same subject is being erased at this moment."""

    code = "PS-3760"
