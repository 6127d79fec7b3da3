"""What can go wrong with an index besides damage, which is mended."""

from penstock.base.errors import CallerError, UpstreamError


class DimensionMismatch(CallerError):
    """A vector has another length than those of the index."""

    code = "PS-1455"


class MissingEngine(CallerError):
    """A recipe names an engine whose package is not installed."""

    code = "PS-1456"


class UnusableConnection(CallerError):
    """The recipe's connection is missing, malformed, or lacks a right on its server."""

    code = "PS-1457"


class IndexServerFailed(UpstreamError):
    """The server that holds an index cannot be reached or refused a request."""

    code = "PS-4455"


class IndexNotWritten(UpstreamError):
    """The files of a new index could not be written, such as on a full disk. The index before is untouched."""

    code = "PS-4456"
