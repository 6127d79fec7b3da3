"""URLs of lists: the same page with something changed, and the traces behind a value as a search."""

from collections.abc import Mapping
from urllib.parse import quote, urlencode


def link(path: str, params: Mapping[str, object], **changes: object) -> str:
    """Return `path` with the parameters, some of them changed; None and empty texts are left out."""
    wanted = {name: value for name, value in {**params, **changes}.items() if value not in {None, ""}}
    return f"{path}?{urlencode(wanted)}" if wanted else path


def member(path: str, identity: str) -> str:
    """Return the page of one thing in a list; its id may hold anything, slashes too."""
    return f"{path}/{quote(identity, safe='/:@')}"
