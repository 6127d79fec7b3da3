"""One template: read once, checked where it stands, filled in often. Errors show the line and point at the place."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from traceback import walk_tb
from types import TracebackType
from typing import Any

from jinja2 import Template as JinjaTemplate
from jinja2 import meta, nodes
from jinja2.exceptions import SecurityError, TemplateError, TemplateSyntaxError
from jinja2.lexer import Token
from jinja2.parser import Parser

from penstock.templating.errors import InvalidTemplate, RenderFailed
from penstock.templating.sandbox import PromptEnvironment
from penstock.templating.work import Work, limited

MAX_TEMPLATE_CHARS = 500_000
MAX_TOKENS = 25_000
"""Names, signs and texts within braces: reading a template takes a time of its own, before any deadline of filling it in."""
_MAX_SHOWN_LINE = 160
_ENVIRONMENT = PromptEnvironment()
_NOTHING = _ENVIRONMENT.from_string("")
_UNEXPECTED = re.compile(r"unexpected '([^']+)'")
_AT = re.compile(r" at (\d+)$")
_FAILURES = (
    TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError, MemoryError,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Template:
    """A template that can be filled in."""

    source: str
    names: frozenset[str]
    """Variables that it reads."""
    compiled: JinjaTemplate

    def fill(self, values: Mapping[str, Any], work: Work) -> str:
        """Return the text; raise `RenderFailed`, `TooMuchWork`. Values are data and are never read as templates."""
        pieces: list[str] = []
        try:
            with limited(work):
                context = self.compiled.new_context(dict(values))
                for piece in self.compiled.root_render_func(context):
                    work.put_out(len(piece))
                    pieces.append(piece)
        except _FAILURES as error:
            line = _line_of(self.compiled, error.__traceback__)
            where = "" if line is None else f"line {line}: "
            raise RenderFailed(f"{where}{_reason(error)}", line=line) from error
        return "".join(pieces)


@lru_cache(maxsize=2048)
def read_template(source: str) -> Template:
    """Return the template; raise `InvalidTemplate` that shows the line and points at the place."""
    if len(source) > MAX_TEMPLATE_CHARS:
        raise InvalidTemplate(f"A template may have {MAX_TEMPLATE_CHARS:,} characters, not {len(source):,}.")
    if "{{" not in source and "{%" not in source and "{#" not in source:
        return _Plain(source=source, names=frozenset(), compiled=_NOTHING)
    tree, names = parse_template(source)
    try:
        compiled = _ENVIRONMENT.from_string(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        raise InvalidTemplate(f"The template cannot be read: {_reason(error)}.") from None
    return Template(source=source, names=names, compiled=compiled)


def parse_template(source: str) -> tuple[nodes.Template, frozenset[str]]:
    """Return the syntax of a template and the variables that it reads; raise `InvalidTemplate`."""
    try:
        _refuse_long(source)
        tree = _ENVIRONMENT.parse(source)
        return tree, _names_of(tree)
    except TemplateSyntaxError as error:
        raise _show(source, error) from None
    except InvalidTemplate as error:
        raise InvalidTemplate(_with_line(source, error), **error.fields) from None
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        raise InvalidTemplate(f"The template cannot be read: {_reason(error)}.") from None


def _names_of(tree: nodes.Template) -> frozenset[str]:
    """Return the variables that a template reads. `meta.find_undeclared_variables` would also calculate, and without bounds."""
    generator = meta.TrackingCodeGenerator(_ENVIRONMENT)
    generator.optimizer = None
    generator.visit(tree)
    return frozenset(generator.undeclared_identifiers - {"range"})


def _refuse_long(source: str) -> None:
    kinds = (kind for _, kind, _ in _ENVIRONMENT.lexer.tokeniter(source, None))
    n_tokens = sum(1 for _ in islice((kind for kind in kinds if kind not in _TEXT), MAX_TOKENS + 1))
    if n_tokens > MAX_TOKENS:
        raise InvalidTemplate(
            f"A template may have {MAX_TOKENS:,} words and signs within braces; this has more."
        )


_TEXT = frozenset({"data", "whitespace", "comment"})


class _Plain(Template):
    """Text without anything to fill in."""

    def fill(self, values: Mapping[str, Any], work: Work) -> str:  # noqa: ARG002
        """Return the text as it is."""
        work.put_out(len(self.source))
        return self.source


def _reason(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, ZeroDivisionError):
        return "it divides by zero"
    if isinstance(error, SecurityError):
        return f"{error.message or 'this'} (not available in prompts)"
    return str(error) or type(error).__name__


def _line_of(compiled: JinjaTemplate, traceback: TracebackType | None) -> int | None:
    found: int | None = None
    for frame, line in walk_tb(traceback):
        if frame.f_code.co_filename == "<template>":
            found = compiled.get_corresponding_lineno(line)
    return found


# -- showing where a mistake is


def _with_line(source: str, error: InvalidTemplate) -> str:
    line = error.fields.get("line")
    lines = source.split("\n")
    if not isinstance(line, int) or not 1 <= line <= len(lines):
        return error.message
    return f"{error.message}\n  {lines[line - 1][:_MAX_SHOWN_LINE]}"


def _show(source: str, error: TemplateSyntaxError) -> InvalidTemplate:
    line = error.lineno
    message = _AT.sub("", error.message or "cannot be read")
    lines = source.split("\n")
    if not 1 <= line <= len(lines):
        return InvalidTemplate(f"line {line}: {message}.", line=line)
    column = _find_column(source, error)
    shown = f"\n  {lines[line - 1][:_MAX_SHOWN_LINE]}"
    if column is not None and column < _MAX_SHOWN_LINE:
        shown += f"\n  {' ' * column}^"
    return InvalidTemplate(f"line {line}: {message.rstrip('.')}.{shown}", line=line, column=column)


def _find_column(source: str, error: TemplateSyntaxError) -> int | None:
    """Return where in its line a syntax error is, None where that cannot be told."""
    lines = source.split("\n")
    if at := _AT.search(error.message or ""):
        before = sum(len(line) + 1 for line in lines[: error.lineno - 1])
        return max(0, int(at.group(1)) - before)
    token, n_before = _failing_token(source)
    if token is None or token.lineno != error.lineno or not str(token.value).strip():
        return None
    line, value = lines[token.lineno - 1], str(token.value)
    column = -1
    for _ in range(n_before + 1):
        column = line.find(value, column + 1)
        if column < 0:
            return None
    said = _UNEXPECTED.search(error.message or "")
    if said and said.group(1) != value:  # the reader of words stops one before what it does not know
        column = line.find(said.group(1), column + len(value))
    return column if column >= 0 else None


def _failing_token(source: str) -> tuple[Token | None, int]:
    """Return the token that the parser does not take, and how many like it stand before it in its line."""
    seen: list[Token] = []

    def note(tokens: Iterator[Token]) -> Iterator[Token]:
        for token in tokens:
            seen.append(token)
            yield token

    try:
        parser = Parser(_ENVIRONMENT, source)
    except TemplateSyntaxError:
        return None, 0
    seen.append(parser.stream.current)
    parser.stream._iter = note(parser.stream._iter)  # noqa: SLF001
    try:
        parser.parse()
    except (TemplateSyntaxError, AssertionError):
        failing = parser.stream.current
        alike = [token for token in seen if token.lineno == failing.lineno and token.value == failing.value]
        return failing, max(0, sum(token is not failing for token in alike[: _index(alike, failing)]))
    return None, 0


def _index(tokens: list[Token], wanted: Token) -> int:
    for number, token in enumerate(tokens):
        if token is wanted:
            return number
    return len(tokens)
