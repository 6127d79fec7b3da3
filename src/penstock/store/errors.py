"""What can go wrong with blobs and counters."""

from penstock.base.errors import BugError, CallerError, NotFound


class UnknownBlob(NotFound):
    """No blob has this digest."""

    code = "PS-1111"


class DamagedBlob(BugError):
    """The stored bytes are not those that the digest names: the disk or a person changed them."""

    code = "PS-9111"


class CountersUnreadable(CallerError):
    """The counter file cannot be opened."""

    code = "PS-1121"
