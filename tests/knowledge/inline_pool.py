"""A parser pool for tests that parses in this process: no start of processes, and documents of its own making."""

from collections.abc import Iterable, Iterator
from typing import Any

from penstock.base.errors import PenstockError
from penstock.knowledge.parse import ParserPool, parse_document
from penstock.spec.knowledge import ParseRecipe


class InlinePool(ParserPool):
    """Parses one document after the other."""

    def __init__(self) -> None:
        pass

    def parse(self, name: str, data: bytes, recipe: ParseRecipe = ParseRecipe()) -> Any:
        return parse_document(name, data, recipe)

    def parse_all(
        self, items: Iterable[tuple[str, Any]], recipe: ParseRecipe = ParseRecipe()
    ) -> Iterator[Any]:
        for name, read in items:
            try:
                yield name, self.parse(name, read(), recipe)
            except (PenstockError, OSError) as error:
                yield name, error

    def close(self) -> None:
        pass
