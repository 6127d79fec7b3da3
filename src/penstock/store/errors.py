"""What can go wrong with blobs and counters."""

from penstock.base.errors import BugError, CallerError, NotFound, UpstreamError, UpstreamUnavailable


class UnknownBlob(NotFound):
    """No blob has this digest."""

    code = "PS-1111"


class DamagedBlob(BugError):
    """The stored bytes are not those that the digest names: the disk or a person changed them."""

    code = "PS-9111"


class CountersUnreadable(CallerError):
    """The counter file cannot be opened or written."""

    code = "PS-1121"


class RedisGone(UpstreamUnavailable):
    """Redis cannot be reached, or did not answer in time."""

    code = "PS-4641"


class RedisRefused(UpstreamError):
    """Redis answered a command with an error: a wrong password, no memory, a read-only replica."""

    code = "PS-4642"


class CacheUnusable(CallerError):
    """The file of kept replies cannot be opened, read or written."""

    code = "PS-1141"
