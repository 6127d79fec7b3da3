"""Mail (.eml, .mbox): headers as properties, the text, quoted replies folded, attachments as sections of their own."""

import re
from collections.abc import Callable, Sequence
from datetime import UTC
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import parsedate_to_datetime

from penstock.knowledge.errors import UnreadableDocument
from penstock.knowledge.parse.html_page import parse_html
from penstock.knowledge.parse.text import SectionBuilder, clean_line, count_words
from penstock.knowledge.types import ParsedDocument, Section
from penstock.spec.knowledge import ParseRecipe, Properties, PropertyValue

ReadPart = Callable[[str, bytes, ParseRecipe], ParsedDocument]
"""Parses an attachment by its name; raises `UnreadableDocument`."""
MAX_DEPTH = 3
MAX_PARTS = 1000
_HEADERS = ("from", "to", "cc", "reply-to", "message-id", "in-reply-to", "list-id")
_WROTE = re.compile(
    r"^(On|Am|Le|El|Il|Op|Den)\b.{5,200}(wrote|schrieb|écrit|escribió|scritto|schreef|skrev).{0,60}:$"
)
_ORIGINAL = re.compile(
    r"^-{2,}\s*(Original Message|Ursprüngliche Nachricht|Message d'origine)\s*-{2,}$", re.IGNORECASE
)
_MESSAGE = re.compile(rb"^From [^\n]{0,500}\d{4}[^\n]{0,20}\r?\n", re.MULTILINE)
_PLAIN_SHARE = 0.2
"""A plain part with less than this share of the HTML part's words only says that there is one."""


def parse_mail(data: bytes, recipe: ParseRecipe, *, read: ReadPart) -> ParsedDocument:
    """Return a mail's text and attachments; `read` parses the latter."""
    reader = _Reader(recipe, read)
    message = _load(data)
    if not message.keys():
        raise UnreadableDocument("the file is no mail: it has no headers.", hint="Save the mail as .eml.")
    sections = reader.read(message, (), 0)
    return ParsedDocument(
        title=_header(message, "subject"),
        media_type="message/rfc822",
        sections=tuple(sections),
        problems=reader.list_problems(),
        properties=_properties(message),
    )


def parse_mailbox(data: bytes, recipe: ParseRecipe, *, read: ReadPart) -> ParsedDocument:
    """Return the mails of a mailbox, a heading each."""
    starts = [(found.start(), found.end()) for found in _MESSAGE.finditer(data)]
    if not starts:
        raise UnreadableDocument("the file is no mailbox: no line begins a mail.", hint="Save mails as .eml.")
    reader = _Reader(recipe, read)
    ends = [start for start, _ in starts[1:]] + [len(data)]
    sections: list[Section] = []
    for number, ((_, begin), end) in enumerate(zip(starts, ends, strict=True), start=1):
        message = _load(re.sub(rb"(?m)^>(>*From )", rb"\1", data[begin:end]))
        subject = _header(message, "subject") or f"Message {number}"
        sender = _header(message, "from")
        found = reader.read(message, (subject,), 0, anchor=f"message={number}")
        if sender:
            found.insert(
                0,
                Section(
                    heading=subject,
                    headings=(subject,),
                    anchor=f"message={number}",
                    text="; ".join(_intro(message)),
                    kind="record",
                ),
            )
        sections += found
    return ParsedDocument(
        title=None,
        media_type="application/mbox",
        sections=tuple(sections),
        problems=reader.list_problems(),
        n_pages=len(starts),
    )


class _Reader:
    def __init__(self, recipe: ParseRecipe, read: ReadPart) -> None:
        self.recipe = recipe
        self._read_part = read
        self.problems: list[str] = []
        self.n_folded = 0
        self._n_parts = 0

    def list_problems(self) -> tuple[str, ...]:
        """Return what was left out, counted."""
        folded = (f"{self.n_folded} lines of quoted replies were folded",) if self.n_folded else ()
        return (*self.problems, *folded)

    def read(
        self, message: EmailMessage, path: tuple[str, ...], depth: int, *, anchor: str | None = None
    ) -> list[Section]:
        """Return the sections of a mail, below `path`."""
        plain, html, attached = _sort_parts(message)
        sections: list[Section] = []
        page = parse_html(html, self.recipe) if html is not None else None
        n_html = sum(count_words(each.text) for each in page.sections) if page else 0
        if plain is not None and (page is None or count_words(plain) >= _PLAIN_SHARE * n_html):
            sections += self._read_plain(plain, path, anchor)
        elif page is not None:
            sections += [_below(each, path, anchor) for each in page.sections]
            self.problems += page.problems
        for name, part in attached:
            self._n_parts += 1
            if self._n_parts > MAX_PARTS:
                self.problems.append(f"attachments after {MAX_PARTS} were left out")
                break
            sections += self._read_attachment(name, part, path, depth)
        return sections

    def _read_plain(self, text: str, path: tuple[str, ...], anchor: str | None) -> list[Section]:
        kept, n_folded = fold_quotes(text) if self.recipe.boilerplate else (text, 0)
        self.n_folded += n_folded
        builder = SectionBuilder()
        for block in re.split(r"\n\s*\n", kept):
            builder.add(block)
        return [_below(each, path, anchor) for each in builder.finish()]

    def _read_attachment(
        self, name: str, part: EmailMessage, path: tuple[str, ...], depth: int
    ) -> list[Section]:
        below = (*path, name)
        if part.get_content_type() == "message/rfc822" or name.lower().endswith(".eml"):
            inner = _attached_mail(part)
            if depth + 1 >= MAX_DEPTH or inner is None:
                self.problems.append(
                    f"attachment {name!r}: mails nested deeper than {MAX_DEPTH} were left out"
                )
                return []
            return self.read(inner, below, depth + 1, anchor=f"attachment={name}")
        data = _bytes_of(part)
        if name.lower().endswith(".mbox"):
            self.problems.append(f"attachment {name!r} was left out: a mailbox in a mail is not read")
            return []
        try:
            document = self._read_part(name, data, self.recipe)
        except UnreadableDocument as error:
            self.problems.append(f"attachment was left out: {error.message}")
            return []
        self.problems += [f"attachment {name!r}: {problem}" for problem in document.problems]
        return [_below(each, below, f"attachment={name}") for each in document.sections]


def fold_quotes(text: str) -> tuple[str, int]:
    """Return the text without the replies it quotes, and how many lines those were."""
    lines = text.replace("\r\n", "\n").split("\n")
    for number, line in enumerate(lines):
        if _ORIGINAL.match(line.strip()):
            rest = [each for each in lines[number:] if each.strip()]
            return "\n".join(lines[:number]), len(rest)
    kept: list[str] = []
    n_folded = 0
    for number, line in enumerate(lines):
        following = next((each for each in lines[number + 1 : number + 4] if each.strip()), "")
        if line.startswith(">") or (_WROTE.match(line.strip()) and following.startswith(">")):
            n_folded += bool(line.strip("> \t"))
        else:
            kept.append(line)
    return "\n".join(kept), n_folded


def _load(data: bytes) -> EmailMessage:
    return message_from_bytes(data, policy=policy.default)


def _sort_parts(
    message: EmailMessage,
) -> tuple[str | None, bytes | None, list[tuple[str, EmailMessage]]]:
    """Return the plain text, the HTML and the attachments, nested multiparts opened."""
    plain: str | None = None
    html: bytes | None = None
    attached: list[tuple[str, EmailMessage]] = []
    waiting = [message]
    while waiting:
        part = waiting.pop(0)
        kind = part.get_content_type()
        name = clean_line(part.get_filename() or "")
        if part.is_multipart() and kind != "message/rfc822":
            waiting = [each for each in part.iter_parts() if isinstance(each, EmailMessage)] + waiting
        elif kind == "message/rfc822":
            attached.append((name or "mail.eml", part))
        elif part.get_content_disposition() == "attachment" or name or not kind.startswith("text/"):
            attached.append((name or f"part{_suffix(kind)}", part))
        elif kind == "text/html" and html is None:
            html = _text_of(part).encode("utf-8")
        elif kind == "text/plain":
            plain = _text_of(part) if plain is None else f"{plain}\n\n{_text_of(part)}"
        else:
            attached.append((f"part{_suffix(kind)}", part))
    return plain, html, attached


def _suffix(kind: str) -> str:
    known = {"text/html": ".html", "text/plain": ".txt", "application/pdf": ".pdf", "text/csv": ".csv"}
    return known.get(kind, f".{kind.rpartition('/')[2]}")


def _text_of(part: EmailMessage) -> str:
    data = _bytes_of(part)
    charset = part.get_content_charset() or "utf-8"
    try:
        return data.decode(charset)
    except (LookupError, ValueError):
        return data.decode("cp1252", errors="replace")


def _bytes_of(part: EmailMessage) -> bytes:
    found = part.get_payload(decode=True)
    return found if isinstance(found, bytes) else b""


def _attached_mail(part: EmailMessage) -> EmailMessage | None:
    if part.get_content_type() == "message/rfc822":
        inner = part.get_payload()
        first = inner[0] if isinstance(inner, list) and inner else None
        return first if isinstance(first, EmailMessage) else None
    return _load(_bytes_of(part))


def _header(message: EmailMessage, name: str) -> str | None:
    try:
        value = message[name]
    except (
        ValueError,
        IndexError,
        AttributeError,
        TypeError,
    ):  # what the header parsers raise on broken ones
        return None
    return clean_line(str(value)) or None if value is not None else None


def _intro(message: EmailMessage) -> Sequence[str]:
    pairs = ((name, _header(message, name)) for name in ("from", "to", "date"))
    return [f"{name}: {value}" for name, value in pairs if value]


def _properties(message: EmailMessage) -> Properties:
    values: dict[str, PropertyValue] = {}
    for name in _HEADERS:
        if value := _header(message, name):
            values[name.replace("-", "_")] = value[:2000]
    modified_ns: int | None = None
    if told := _header(message, "date"):
        try:
            moment = parsedate_to_datetime(told)
            aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
            modified_ns = int(aware.timestamp()) * 1_000_000_000
        except (ValueError, TypeError, OverflowError):
            modified_ns = None
    return Properties(values=values, modified_ns=modified_ns)


def _below(section: Section, path: tuple[str, ...], anchor: str | None) -> Section:
    if not path and anchor is None:
        return section
    headings = (*path, *section.headings)
    place = f"{anchor}&{section.anchor}" if anchor and section.anchor else anchor or section.anchor
    return Section(
        heading=section.heading or (path[-1] if path else None),
        text=section.text,
        anchor=place,
        headings=headings,
        page=section.page,
        kind=section.kind,
    )
