"""What stops an import; what merely cannot be carried over stands in its report."""

from penstock.base.errors import InvalidInput, TooLarge


class ImportUnreadable(InvalidInput):
    """The file or folder is not what it should be."""

    code = "PS-1290"


class ImportTooLarge(TooLarge):
    """A configuration file is larger, or unfolds to more, than any person would write."""

    code = "PS-1291"
