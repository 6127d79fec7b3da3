"""What apps need of knowledge bases besides searching them: which there are, and their documents. `main` fills it.

Blocking, like searches. Everything is fail closed: what the scope may not see is not there.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol
from urllib.parse import unquote

from penstock.spec.knowledge import ChosenScope, Condition

ReadFilter = Callable[[str | dict[str, Any]], Condition]
"""Reads a filter as people (`language:de`) and OpenAI's clients (`{"type": "eq", …}`) write it; raises `InvalidInput`."""


class ShelvedBase(Protocol):
    """A knowledge base that can be searched; `knowledge.types.BaseRow` is one."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str | None: ...
    @property
    def n_documents(self) -> int: ...
    @property
    def n_passages(self) -> int: ...
    @property
    def updated_ns(self) -> int: ...


class ShelvedDocument(Protocol):
    """A document of the live generation; `knowledge.types.DocumentRow` is one."""

    @property
    def path(self) -> str: ...
    @property
    def title(self) -> str | None: ...
    @property
    def media_type(self) -> str | None: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def error(self) -> str | None: ...
    @property
    def created_ns(self) -> int: ...


class DocumentText(Protocol):
    """What a document says."""

    @property
    def path(self) -> str: ...
    @property
    def title(self) -> str | None: ...
    @property
    def media_type(self) -> str | None: ...
    @property
    def url(self) -> str | None: ...
    @property
    def text(self) -> str: ...


class Shelf(Protocol):
    """All knowledge bases of a home."""

    def list_bases(self, *, scope: ChosenScope) -> Sequence[ShelvedBase]:
        """Return the bases that have a live generation, by name, with counts of what `scope` may see."""

    def page_documents(
        self, name: str, *, after: str | None, limit: int, is_down: bool = False, scope: ChosenScope
    ) -> Sequence[ShelvedDocument]:
        """Return at most `limit` documents that `scope` may see, by path: those behind `after`, or before it and backwards.

        Raises `NotFound` for a base that is not there.
        """

    def find_document(self, name: str, path: str, *, scope: ChosenScope) -> ShelvedDocument:
        """Return one document; raise `NotFound` for one that is not there or may not be seen."""

    def read_document(self, name: str, path: str, *, scope: ChosenScope) -> DocumentText:
        """Return the text of one document; raise `NotFound` for one that is not there or may not be seen."""


class Routes:
    """Which routes a caller's key may call."""

    def __init__(self, told: str | None) -> None:
        """`told` is the gateway's header; None is all of them."""
        self._names = None if told is None else frozenset(unquote(each) for each in told.split(","))

    def may_search(self, base: str) -> bool:
        """Return whether the key may search a knowledge base."""
        return self._names is None or f"knowledge:{base}" in self._names

    def may_call(self, app: str) -> bool:
        """Return whether the key may ask an app."""
        return self._names is None or app in self._names
