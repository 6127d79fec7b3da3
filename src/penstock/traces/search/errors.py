"""What is wrong with a search, and where."""

from penstock.base.errors import InvalidInput


class SearchInvalid(InvalidInput):
    """A search cannot be read. The fields say where: `query`, `position` and `length`, in characters."""

    code = "PS-1961"

    @classmethod
    def at(cls, query: str, start: int, end: int, message: str, hint: str | None = None) -> "SearchInvalid":
        """Return the error about `query[start:end]`."""
        return cls(message, hint=hint, query=query, position=start, length=max(1, end - start))
