"""Nested values that were flattened into attribute names: `llm.input_messages.0.message.role`."""

import re
from collections.abc import Mapping
from typing import Any

_NUMBER = re.compile(r"\.[0-9]+(?:\.|$)")
_MAX_INDEX = 100_000


def is_flattened(name: str) -> bool:
    """Return whether a level of `name` is a number: it is a part of a flattened list."""
    return _NUMBER.search(name) is not None


def is_under(name: str, prefix: str) -> bool:
    """Return whether `name` is `prefix`, a dot and more."""
    return name.startswith(prefix) and name[len(prefix) : len(prefix) + 1] == "."


def unflatten(attributes: Mapping[str, Any], prefix: str) -> Any:
    """Return the value whose leaves are the attributes under `prefix`.

    Levels whose names are all numbers become lists, in the order of the numbers; gaps close.
    """
    tree: dict[str, Any] = {}
    for name, value in attributes.items():
        node = tree
        *path, leaf = name[len(prefix) + 1 :].split(".")
        for step in path:
            below = node.setdefault(step, {})
            if not isinstance(below, dict):
                below = node[step] = {"": below}  # a leaf and a branch of one name: keep both
            node = below
        node[leaf] = {"": value, **node[leaf]} if isinstance(node.get(leaf), dict) else value
    return _listed(tree)


def _listed(tree: dict[str, Any]) -> Any:
    """Turn number-keyed levels into lists, bottom up and without recursion."""
    order: list[tuple[dict[str, Any] | None, str, dict[str, Any]]] = [(None, "", tree)]
    for _, _, node in order:  # grows while it is read: breadth first
        order.extend((node, key, child) for key, child in node.items() if isinstance(child, dict))
    result: Any = tree
    for parent, key, node in reversed(order):
        value = _as_list(node) if _is_list(node) else node
        if parent is None:
            result = value
        else:
            parent[key] = value
    return result


def _is_list(node: dict[str, Any]) -> bool:
    return bool(node) and all(key.isascii() and key.isdigit() and int(key) < _MAX_INDEX for key in node)


def _as_list(node: dict[str, Any]) -> list[Any]:
    return [node[key] for key in sorted(node, key=int)]
