"""Markdown of strangers as HTML that is safe on our pages: no HTML of theirs, no picture fetched, no style.

What a link may lead to is checked by the parser (no scripts, no files); headings become smaller than the page's own.
"""

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

MAX_CHARS = 20_000
_LOWER = 3


def render_markdown(text: str, *, keeps_lines: bool = True) -> Markup | None:
    """Return the text as HTML, or None when it is so long that it is better shown as it is.

    Lines of what was said in a chat end where they ended; those of a document (`keeps_lines` False) flow.
    """
    if len(text) > MAX_CHARS:
        return None
    parser = _said if keeps_lines else _written
    tokens = parser.parse(text)
    for token in tokens:
        _tame(token)
    return Markup(parser.renderer.render(tokens, parser.options, {}))  # noqa: S704 - made of escaped text by the parser


def _tame(token: Token) -> None:
    token.attrs.pop("style", None)  # how cells of a table are aligned; pages allow no style of their own
    if token.type in {"heading_open", "heading_close"}:
        token.tag = f"h{min(6, int(token.tag[1:]) + _LOWER)}"
    if token.type == "link_open":
        token.attrs.update(rel="noreferrer nofollow", target="_blank")
    for child in token.children or ():
        _tame(child)


def _make(*, breaks: bool) -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "breaks": breaks})
    return parser.enable(["table", "strikethrough"]).disable("image")


_said, _written = _make(breaks=True), _make(breaks=False)
