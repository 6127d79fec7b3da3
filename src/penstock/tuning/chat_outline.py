"""Chat templates that copy contents and never look at them: read from the template's syntax tree, not tried out.

Most templates decide by roles and places alone and write each content as it stands. Of such a template one rendering for
each order of roles is enough: contents are put in afterwards, at a tenth of the time. Whatever here is not plainly
copying (a comparison with a content, a filter, a method, a message handed on whole) makes a template one that is
rendered every time.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum, auto

from jinja2 import nodes

Outline = tuple[str | int, ...]
"""A rendered conversation: the template's own texts, and numbers of messages whose contents stand between them."""
MARK = "\ufddf"
"""A noncharacter around the number of a message, where its content will stand."""
_PLACE = re.compile(f"{MARK}(\\d+){MARK}")
_BY_TYPE = frozenset({"string", "defined", "undefined", "none", "mapping", "iterable", "sequence"})
"""Tests that a text passes or fails whatever it says."""
_FILTERS = frozenset({"trim", "length", "count", "tojson", "upper", "lower", "string", "int", "default", "d"})
_NEIGHBOURS = frozenset({"previtem", "nextitem"})
_HIDDEN = frozenset({"self", "caller", "varargs", "kwargs", "loop"})
"""What can hand out messages; `loop` has its members read above."""


class _Part(Enum):
    """What an expression can hold of the conversation."""

    NOTHING = auto()
    CONTENT = auto()
    """One content, whole."""
    TEXT = auto()
    """Contents among other text."""
    MESSAGE = auto()
    MESSAGES = auto()


class _LooksAtContents(Exception):
    """The template does more with a content than to copy it, or this reading does not know what it does."""


class Copying:
    """What is known of a template that copies contents."""

    def __init__(self, tree: nodes.Template) -> None:
        """Raise `ValueError` where the template may do more than copy."""
        self.trims = False
        """Whether it takes spaces off both ends of a content, somewhere."""
        self._known: dict[str, _Part] = {"messages": _Part.MESSAGES}
        before: dict[str, _Part] | None = None
        try:
            while before != self._known:  # a name may be read before the place that gives it a content
                before = dict(self._known)
                self._read(tree.body)
        except _LooksAtContents as error:
            raise ValueError("The template looks at contents.") from error

    def _read(self, body: Iterable[nodes.Node]) -> None:
        for node in body:
            match node:
                case nodes.Output():
                    if any(self._of(each) in {_Part.MESSAGE, _Part.MESSAGES} for each in node.nodes):
                        raise _LooksAtContents
                case nodes.If():
                    self._ask_nothing([node.test])
                    self._read([*node.body, *node.elif_, *node.else_])
                case nodes.For():
                    self._read_loop(node)
                case nodes.Assign(target=nodes.Name(name=name)):
                    self._bind(name, self._of(node.node))
                case nodes.Assign():
                    self._ask_nothing([node.node])
                case nodes.Continue() | nodes.Break():
                    pass
                case _:
                    raise _LooksAtContents

    def _read_loop(self, node: nodes.For) -> None:
        part = self._of(node.iter)
        if node.recursive or part not in {_Part.NOTHING, _Part.MESSAGES}:
            raise _LooksAtContents
        if part is _Part.MESSAGES and not isinstance(node.target, nodes.Name):
            raise _LooksAtContents
        for name in [node.target, *node.target.find_all(nodes.Name)]:
            if isinstance(name, nodes.Name):
                self._bind(name.name, _Part.MESSAGE if part is _Part.MESSAGES else part)
        if node.test is not None:
            self._ask_nothing([node.test])
        self._read([*node.body, *node.else_])

    def _bind(self, name: str, part: _Part) -> None:
        self._known[name] = _join(self._known.get(name, part), part)

    def _ask_nothing(self, asked: Iterable[nodes.Node]) -> None:
        """Go on only where none of these expressions holds anything of the conversation but its roles and places."""
        if any(self._of(each) is not _Part.NOTHING for each in asked):
            raise _LooksAtContents

    def _of(self, node: nodes.Node) -> _Part:
        match node:
            case nodes.Name(name=name):
                if name in _HIDDEN:
                    raise _LooksAtContents
                return self._known.get(name, _Part.NOTHING)
            case nodes.Getattr(node=whose, attr=key):
                is_loop = isinstance(whose, nodes.Name) and whose.name == "loop"
                return self._member(_Part.NOTHING if is_loop else self._of(whose), key)
            case nodes.Getitem():
                return self._item(node)
            case nodes.Concat(nodes=parts):
                return self._joined(parts)
            case nodes.Add(left=left, right=right):
                return self._joined([left, right])
            case nodes.CondExpr():
                self._ask_nothing([node.test])
                chosen = self._of(node.expr1)
                return chosen if node.expr2 is None else _join(chosen, self._of(node.expr2))
            case nodes.Filter():
                return self._filtered(node)
            case nodes.Test():
                return self._tested(node)
            case nodes.Call():
                return self._called(node)
            case nodes.Compare(ops=[nodes.Operand(op="in" | "notin", expr=where)], expr=nodes.Const()):
                if self._of(where) is not _Part.MESSAGE:  # which names a message has is no content
                    self._ask_nothing([where])
                return _Part.NOTHING
            case nodes.Expr() | nodes.Helper():
                self._ask_nothing(node.iter_child_nodes())
                return _Part.NOTHING
            case _:
                raise _LooksAtContents

    def _joined(self, parts: Sequence[nodes.Node]) -> _Part:
        found = {self._of(each) for each in parts}
        if found <= {_Part.NOTHING}:
            return _Part.NOTHING
        if found <= {_Part.NOTHING, _Part.CONTENT, _Part.TEXT}:
            return _Part.TEXT
        raise _LooksAtContents

    def _member(self, of: _Part, key: object) -> _Part:
        if not isinstance(key, str) or key in _NEIGHBOURS:
            raise _LooksAtContents
        if of is _Part.MESSAGE and not hasattr(dict, key):  # a method of it could hand out anything
            return _Part.CONTENT if key == "content" else _Part.NOTHING
        if of is _Part.NOTHING:
            return _Part.NOTHING
        raise _LooksAtContents

    def _item(self, node: nodes.Getitem) -> _Part:
        of, key = self._of(node.node), node.arg
        if of is _Part.MESSAGES:
            self._ask_nothing([key])
            return _Part.MESSAGES if isinstance(key, nodes.Slice) else _Part.MESSAGE
        if of is _Part.NOTHING and isinstance(key, nodes.Slice):
            self._ask_nothing([key])
            return of
        if not isinstance(key, nodes.Const):
            raise _LooksAtContents
        if of is _Part.NOTHING and isinstance(key.value, int):
            return of
        return self._member(of, key.value)

    def _filtered(self, node: nodes.Filter) -> _Part:
        if node.node is None or node.name not in _FILTERS or node.dyn_args or node.dyn_kwargs:
            raise _LooksAtContents
        of, given = self._of(node.node), [*node.args, *node.kwargs]
        if of is _Part.CONTENT and node.name == "trim" and not given:
            self.trims = True
            return of
        if of is _Part.MESSAGES and node.name in {"length", "count"}:
            return _Part.NOTHING
        self._ask_nothing([node.node, *given])
        return _Part.NOTHING

    def _tested(self, node: nodes.Test) -> _Part:
        if node.dyn_args or node.dyn_kwargs:
            raise _LooksAtContents
        if not (self._of(node.node) is _Part.CONTENT and node.name in _BY_TYPE):
            self._ask_nothing([node.node])
        self._ask_nothing([*node.args, *node.kwargs])
        return _Part.NOTHING

    def _called(self, node: nodes.Call) -> _Part:
        if node.dyn_args or node.dyn_kwargs:
            raise _LooksAtContents
        match node:
            case nodes.Call(node=nodes.Getattr(node=whose, attr="strip"), args=[], kwargs=[]):
                part = self._of(whose)
                self.trims |= part is _Part.CONTENT
                if part in {_Part.CONTENT, _Part.NOTHING}:
                    return part
            case nodes.Call(
                node=nodes.Getattr(node=whose, attr="get"), args=[nodes.Const(value=key), *rest], kwargs=[]
            ) if self._of(whose) is _Part.MESSAGE:
                self._ask_nothing(rest)
                return self._member(_Part.MESSAGE, key)
        self._ask_nothing([node.node, *node.args, *node.kwargs])
        return _Part.NOTHING


def placeholders(roles: Sequence[str]) -> list[Mapping[str, str]]:
    """Return messages of these roles whose contents say their numbers."""
    return [{"role": role, "content": f"{MARK}{number}{MARK}"} for number, role in enumerate(roles)]


def read_outline(rendered: str) -> Outline:
    """Return the outline in what a template made of `placeholders`."""
    pieces: list[str | int] = [*_PLACE.split(rendered)]
    pieces[1::2] = map(int, pieces[1::2])
    return tuple(piece for piece in pieces if piece != "")


def begins_with(whole: Outline, start: Outline) -> bool:
    """Whether every conversation of the one outline begins with that of the other."""
    if not start:
        return True
    *before, last = start
    size = len(before)
    if len(whole) <= size or whole[:size] != tuple(before):
        return False
    there = whole[size]
    return there.startswith(last) if isinstance(last, str) and isinstance(there, str) else there == last


def _join(one: _Part, other: _Part) -> _Part:
    """Return what a name can hold that is given this in one place and that in another."""
    if one is other:
        return one
    if {one, other} <= {_Part.NOTHING, _Part.CONTENT, _Part.TEXT}:
        return _Part.TEXT
    raise _LooksAtContents
