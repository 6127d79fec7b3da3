"""What documents of a base say, for those who may read them. Fail closed: what may not be seen is as if it were not there."""

from sqlalchemy import Engine

from penstock.knowledge.listing import EVERYTHING, BlobReader, Listing
from penstock.knowledge.living import Living
from penstock.knowledge.types import BaseRow, DocumentRow, DocumentText, VersionKeeper
from penstock.spec.knowledge import ChosenScope


class Reading:
    """Reads the control tables and parses. Every method that takes a base may raise `UnknownKnowledge`."""

    def __init__(
        self, engine: Engine, versions: VersionKeeper | None, blobs: BlobReader | None = None
    ) -> None:
        """Without `blobs` a document's text is put together from its passages."""
        self._listing = Listing(engine, Living(engine, versions), blobs)

    def list_bases(self, *, scope: ChosenScope = EVERYTHING) -> list[BaseRow]:
        """Return every base that has a live generation, by name, with counts of what the scope's principals may see."""
        return self._listing.list_bases(scope=scope)

    def page_documents(
        self, name: str, *, after: str | None, limit: int, is_down: bool = False, scope: ChosenScope
    ) -> list[DocumentRow]:
        """Return at most `limit` live documents that the scope leaves, those that follow `after` by path, or go before it."""
        return self._listing.page_documents(name, after=after, limit=limit, is_down=is_down, scope=scope)

    def find_document(self, name: str, path: str, *, scope: ChosenScope) -> DocumentRow:
        """Return one live document; raise `UnknownDocument` also for one that may not be seen."""
        return self._listing.find_document(name, path, scope=scope)

    def read_document(self, name: str, path: str, *, scope: ChosenScope) -> DocumentText:
        """Return the text of one live document; raise `UnknownDocument` also for one that may not be seen."""
        return self._listing.read_document(name, path, scope=scope)
