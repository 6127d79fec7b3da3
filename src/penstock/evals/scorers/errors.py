"""What can be wrong with the asking for a scorer. What is wrong with a content is a score with a reason, not an error."""

from collections.abc import Iterable

from penstock.base.errors import InvalidInput, NotFound, PolicyError, suggest


class UnknownScorer(NotFound):
    """No scorer has this name."""

    code = "PS-1270"

    def __init__(self, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        super().__init__(
            f"unknown scorer {name!r}.",
            hint=suggest(name, names) or "`penstock scorer list` shows all of them.",
            scorer=name,
        )


class BadScorerParameters(InvalidInput):
    """A parameter of a scorer is missing, unknown or malformed."""

    code = "PS-1271"

    def __init__(self, scorer: str, problem: str) -> None:
        super().__init__(
            f"scorer {scorer!r}: {problem}.",
            hint=f"`penstock scorer show {scorer}` lists its parameters."
            if scorer.isidentifier()
            else "See docs/guides/scorers.md.",
            scorer=scorer,
        )


class PythonScorerNotFound(InvalidInput):
    """The module, file or function of a Python scorer cannot be loaded."""

    code = "PS-1272"


class PythonNotLoaded(PolicyError):
    """Python scorers run only in the process of the person who asks, and never in control."""

    code = "PS-2270"
    status = 403

    def __init__(self, name: str) -> None:
        super().__init__(
            f"scorer {name!r} is Python code, which is not run here.",
            hint="Run the evaluation locally: `penstock eval run FILE --local`, the SDK, or pytest.",
            scorer=name,
        )
