"""What can go wrong between a place that holds documents and their bytes."""

from penstock.base.errors import CallerError, ConflictError, NotFound, PolicyError, UpstreamError


class InvalidSource(CallerError):
    """The settings of a source cannot be used; the text names the setting."""

    code = "PS-1414"


class UnknownSource(NotFound):
    """The knowledge base has no source of that name."""

    code = "PS-1415"


class UnknownItem(NotFound):
    """No source of the knowledge base holds, or held, a document at that path."""

    code = "PS-1416"


class UnreadableProperties(CallerError):
    """A file of properties cannot be understood, so what it describes is left as it was."""

    code = "PS-1417"


class MissingReader(CallerError):
    """A place needs a library that is not installed; the hint names it."""

    code = "PS-1418"


class InvalidSchedule(CallerError):
    """A schedule cannot be understood."""

    code = "PS-1419"


class ForbiddenAddress(PolicyError):
    """An address is inside a private network, and the source does not allow it by name."""

    code = "PS-2414"
    status = 403


class SourceExists(ConflictError):
    """The knowledge base has a source of that name already."""

    code = "PS-3414"


class SourcePaused(ConflictError):
    """The source is paused or only kept, so it is not read."""

    code = "PS-3415"


class SourceUnavailable(UpstreamError):
    """The place could not be listed at all: nothing of it was taken over, nothing deleted."""

    code = "PS-4414"


class ItemUnavailable(UpstreamError):
    """One document could not be fetched."""

    code = "PS-4415"
