"""What can go wrong with the span store."""

from penstock.base.errors import CallerError, ConflictError, InvalidInput, NotFound, UpstreamError


class SpanStoreInUse(ConflictError):
    """Another process owns the span store's file."""

    code = "PS-3101"


class SpanStoreUnreadable(CallerError):
    """The file is not a span store that this version can open."""

    code = "PS-1101"


class SpanStoreFailed(UpstreamError):
    """The engine gave up in the middle (a full or broken disk); it was reopened, so try again."""

    code = "PS-4101"
    status = 503


class SpanStoreBusy(ConflictError):
    """Readers kept the file open all the time."""

    code = "PS-3950"


class UnknownSpan(NotFound):
    """No such span here (or retention removed it)."""

    code = "PS-1104"


class InvalidCursor(InvalidInput):
    """The cursor is not one that a page of this list gave."""

    code = "PS-1105"


class SearchTooSlow(InvalidInput):
    """The search was ended because it took too long."""

    code = "PS-1963"
