"""What Anthropic's models take, by their names. Dialects read nothing else about a model.

A Claude whose name tells no version counts as new. A name that is no Claude's belongs to another server that speaks
this protocol, as it was when thinking had a budget.
"""

import re

_VERSION = re.compile(r"claude-(?:[a-z]+-)?(\d{1,2})(?:[-.](\d{1,2}))?(?:-[a-z]+)?(?!\d)")
_BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 32768, "max": 32768}
_NEW = (99, 0)
LEAST_BUDGET = 1024


def _version(model: str) -> tuple[int, int]:
    found = _VERSION.search(model)
    if found is not None:
        return int(found[1]), int(found[2] or 0)
    return _NEW if "claude" in model else (0, 0)


def thinks_adaptively(model: str) -> bool:
    """Return whether `model` decides itself how much to think and takes an effort (Claude 4.6 and later)."""
    return _version(model) >= (4, 6)


def thinks_unasked(model: str) -> bool:
    """Return whether `model` may think unless it is told not to (Claude 5 and later)."""
    return _version(model) >= (5, 0)


def refuses_sampling(model: str) -> bool:
    """Return whether `model` refuses `temperature`, `top_p` and `top_k` (Claude 4.7 and later)."""
    return _version(model) >= (4, 7)


def takes_one_sampler(model: str) -> bool:
    """Return whether `model` refuses `temperature` and `top_p` together (Claude 4.1 and later)."""
    return _version(model) >= (4, 1)


def budget_of_effort(effort: str) -> int:
    """Return the tokens that an effort is worth to a model that takes a budget."""
    return _BUDGETS.get(effort, 8192)
