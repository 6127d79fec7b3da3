"""What can go wrong between a file and a passage."""

from penstock.base.errors import CallerError


class UnreadableDocument(CallerError):
    """A document cannot be parsed; the text says why and what would help."""

    code = "PS-1501"


class UnsupportedFormat(UnreadableDocument):
    """No parser for this kind of file."""

    code = "PS-1502"


class DocumentTooLarge(UnreadableDocument):
    """The file, or what it unpacks to, is over the limit."""

    code = "PS-1503"
    status = 413
