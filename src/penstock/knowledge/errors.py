"""What can go wrong between a file and a passage."""

from penstock.base.errors import BugError, CallerError, ConflictError, NotFound, UpstreamError


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


class LockedDocument(UnreadableDocument):
    """A password locks the file."""

    code = "PS-1430"


class ParserDied(UnreadableDocument):
    """The process that parsed a document crashed on it; the other documents went on."""

    code = "PS-1431"


class ParserTooSlow(UnreadableDocument):
    """Parsing a document took longer than the recipe allows."""

    code = "PS-1432"


class ParserTooLarge(UnreadableDocument):
    """Parsing a document needed more memory than the recipe allows."""

    code = "PS-1433"


class PersonalDataRefused(UnreadableDocument):
    """The document holds personal data, and the recipe refuses such documents."""

    code = "PS-1434"


class UnknownKnowledge(NotFound):
    """No knowledge base of that name, or nothing was ingested into it yet."""

    code = "PS-1504"


class UnknownDocument(NotFound):
    """The knowledge base holds no such document."""

    code = "PS-1505"


class NoDocuments(CallerError):
    """The folder holds no document that can be read; nothing was registered or changed."""

    code = "PS-1506"


class MassDeletion(ConflictError):
    """So many documents are gone from the source that it looks like a mistake; nothing was changed."""

    code = "PS-3501"


class PrunedGeneration(ConflictError):
    """A version of a knowledge base names a generation that was deleted since; the alias stays where it is."""

    code = "PS-3474"


class DamagedIndex(BugError):
    """Files of an index are missing or broken. They are derived: the service rebuilds them."""

    code = "PS-9501"


class UnusableEmbedding(UpstreamError):
    """The embedder answered with vectors that cannot be used (shape, infinite values)."""

    code = "PS-4501"
