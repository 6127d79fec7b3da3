"""Jinja as prompts may use it: names, loops, conditions, filters, a few methods. No attribute of Python is reachable.

Three fences stand one behind the other: only listed kinds of syntax are read, only listed methods can be called (and
values are JSON, so there is nothing else to call), and all work is bounded (`work.py`). Nothing is computed when a
template is compiled: what a template calculates, it calculates under these bounds.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

from jinja2 import StrictUndefined, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from penstock.base.errors import suggest
from penstock.templating.errors import InvalidTemplate
from penstock.templating.values import (
    TEMPLATE_FILTERS,
    TEMPLATE_TESTS,
    calculate,
    joined,
    pieces_of,
    text_of,
    weighed,
)
from penstock.templating.work import MAX_STEPS, bounded_items, counted, look, made

METHODS: dict[type, frozenset[str]] = {
    str: frozenset(
        [
            "upper",
            "lower",
            "strip",
            "lstrip",
            "rstrip",
            "title",
            "capitalize",
            "startswith",
            "endswith",
            "split",
            "rsplit",
            "splitlines",
            "removeprefix",
            "removesuffix",
            "find",
            "count",
            "isdigit",
            "isalpha",
            "isupper",
            "islower",
        ]
    ),
    dict: frozenset({"get", "keys", "values", "items"}),
    list: frozenset({"index", "count"}),
}
"""What can be called on a value."""
_ALL_METHODS = frozenset[str]().union(*METHODS.values())
_HIDDEN = frozenset({"self", "super", "caller", "varargs", "kwargs"})
_SYNTAX: tuple[type[nodes.Node], ...] = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.For, nodes.If, nodes.Assign, nodes.AssignBlock,
    nodes.With, nodes.FilterBlock, nodes.Scope, nodes.Name, nodes.Const, nodes.Tuple, nodes.List, nodes.Dict,
    nodes.Pair, nodes.Keyword, nodes.CondExpr, nodes.Filter, nodes.Test, nodes.Call, nodes.Getattr, nodes.Getitem,
    nodes.Slice, nodes.Concat, nodes.Compare, nodes.Operand, nodes.BinExpr, nodes.UnaryExpr,
)  # fmt: skip
_WRITTEN = {
    "Macro": "{% macro %}",
    "CallBlock": "{% call %}",
    "Include": "{% include %}",
    "Import": "{% import %}",
    "FromImport": "{% from %}",
    "Extends": "{% extends %}",
    "Block": "{% block %}",
    "NSRef": "namespace",
}


def bounded_range(*numbers: int) -> range:
    """Return the numbers of `range`, at most as many as a template may take steps."""
    found = range(*numbers)
    if len(found) > MAX_STEPS:
        raise SecurityError(f"range is too long: at most {MAX_STEPS:,}")
    return found


class PromptEnvironment(ImmutableSandboxedEnvironment):
    """The environment of all templates of prompts. Safe to share between threads."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def __init__(self) -> None:
        super().__init__(
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            autoescape=False,
            optimized=False,
            finalize=_finalize,
            cache_size=0,
        )
        self.globals = {"range": bounded_range}
        # the filters that the rewritten syntax stands for are no names that a template could write
        own = {"(joined)": joined, "(counted)": counted, "(weighed)": weighed, "(made)": made}
        self.filters = {**TEMPLATE_FILTERS, **own}
        self.tests = dict(TEMPLATE_TESTS)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Return a member of an object before any method of that name."""
        if isinstance(obj, dict) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:  # noqa: ARG002
        """Return whether a template may read this attribute of Python: a listed method, or one of `loop`."""
        if isinstance(obj, LoopContext):
            return not attr.startswith("_")
        return attr in METHODS.get(type(obj), ())

    def wrap_str_format(self, value: Any) -> None:
        """Offer no `format`, not even the guarded one: it writes as much as it is told to."""

    def is_safe_callable(self, obj: Any) -> bool:
        """Return whether a template may call this."""
        if obj is bounded_range:
            return True
        owner, name = getattr(obj, "__self__", None), getattr(obj, "__name__", "")
        if isinstance(owner, LoopContext):
            return bool(name == "cycle")
        return name in METHODS.get(type(owner), ())

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - as Jinja names them
        """Return what a method returns, once it is counted; what would fall apart into too many pieces is not split."""
        look()
        owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        if isinstance(owner, str) and name in {"split", "rsplit", "splitlines"}:
            given = [*args, *(value for key, value in kwargs.items() if key == "sep")]
            bounded_items(pieces_of(owner, name, given))
        value = super().call(__context, __obj, *args, **kwargs)
        return value if value is owner else made(value)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:  # noqa: ARG002
        """Return the result of an operator, within bounds."""
        return calculate(operator, left, right)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for node in tree.find_all(nodes.Node):
            _check(node)
        rewritten: nodes.Template = _Bounding().visit(tree)
        return rewritten


@pass_context  # also keeps Jinja from calculating constants when it compiles
def _finalize(_context: Any, value: Any) -> str:
    return str(made(text_of(value)))


class _Bounding(NodeTransformer):
    """Rewrites what has no hook: loops count their steps, `~` and written lists know their bounds, parts of texts count.

    What stands between `set` and `endset`, or in a filter's block, is put together to a value: its text counts as a
    value's, too.
    """

    _n_blocks = 0

    def visit_AssignBlock(self, node: nodes.AssignBlock) -> nodes.AssignBlock:  # noqa: N802
        self._visit_block(node)
        return node

    def visit_FilterBlock(self, node: nodes.FilterBlock) -> nodes.FilterBlock:  # noqa: N802
        self._visit_block(node)
        return node

    def _visit_block(self, node: nodes.Node) -> None:
        self._n_blocks += 1
        self.generic_visit(node)
        self._n_blocks -= 1

    def visit_TemplateData(self, node: nodes.TemplateData) -> nodes.Expr:  # noqa: N802
        return nodes.Const(node.data, lineno=node.lineno) if self._n_blocks else node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Expr:  # noqa: N802
        self.generic_visit(node)
        return _filtered(node, "(made)") if isinstance(node.arg, nodes.Slice) else node

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802 - the visitor's own naming
        self.generic_visit(node)
        node.iter = _filtered(node.iter, "(counted)")
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:  # noqa: N802
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), "(joined)")

    def visit_List(self, node: nodes.List) -> nodes.Filter:  # noqa: N802
        self.generic_visit(node)
        return _filtered(node, "(weighed)")

    def visit_Dict(self, node: nodes.Dict) -> nodes.Filter:  # noqa: N802
        self.generic_visit(node)
        return _filtered(node, "(weighed)")

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Expr:  # noqa: N802
        self.generic_visit(node)
        return _filtered(node, "(weighed)") if node.ctx == "load" else node


def _filtered(node: nodes.Node, name: str) -> nodes.Filter:
    assert isinstance(node, nodes.Expr)
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _check(node: nodes.Node) -> None:
    refuse: Callable[[str], InvalidTemplate] = lambda what: InvalidTemplate(  # noqa: E731
        f"line {node.lineno}: {what}", line=node.lineno
    )
    if not isinstance(node, _SYNTAX):
        kind = type(node).__name__
        raise refuse(f"{_WRITTEN.get(kind, kind)} is not available in prompts.")
    if isinstance(node, nodes.For) and node.recursive:
        raise refuse("loops that call themselves are not available in prompts.")
    if isinstance(node, nodes.Name) and node.name in _HIDDEN:
        raise refuse(f"{node.name!r} is not available in prompts.")
    if isinstance(node, nodes.Const) and isinstance(node.value, float) and not math.isfinite(node.value):
        raise refuse("a number is too large.")
    if isinstance(node, nodes.Getattr) and node.attr.startswith("_"):
        raise refuse(f"{node.attr!r} is not available in prompts: it begins with an underscore.")
    if isinstance(node, nodes.Filter) and node.name not in TEMPLATE_FILTERS:
        raise refuse(_unknown("filter", node.name, TEMPLATE_FILTERS))
    if isinstance(node, nodes.Test) and node.name not in TEMPLATE_TESTS:
        raise refuse(_unknown("test", node.name, TEMPLATE_TESTS))
    if isinstance(node, nodes.Call):
        _check_call(node, refuse)


def _check_call(node: nodes.Call, refuse: Callable[[str], InvalidTemplate]) -> None:
    called = node.node
    if isinstance(called, nodes.Name) and called.name == "range":
        return
    if isinstance(called, nodes.Getattr) and (called.attr in _ALL_METHODS or called.attr == "cycle"):
        return
    name = called.name if isinstance(called, nodes.Name) else getattr(called, "attr", "this")
    near = suggest(name, _ALL_METHODS) or f"`range` can, and {', '.join(sorted(_ALL_METHODS))}."
    raise refuse(f"{name!r} cannot be called in prompts. {near}")


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    written = sorted(each for each in known if each.isidentifier())
    near = suggest(name, written) or f"There are {', '.join(written)}."
    return f"there is no {what} {name!r} in prompts. {near}"
