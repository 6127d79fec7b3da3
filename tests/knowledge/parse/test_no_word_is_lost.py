"""For each format: every word that somebody wrote into a document is in its sections, or counted as left out."""

from collections import Counter
from collections.abc import Callable
from email.message import EmailMessage
from html import escape
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.knowledge.parse.builders import make_docx, make_pdf, make_pptx, make_xlsx, read, words_of

WORDS = st.text("abcdefghijklmnopqrstuvwxyz", min_size=3, max_size=9)
LINES = st.lists(WORDS, min_size=1, max_size=8).map(" ".join)
BLOCKS = st.lists(
    st.one_of(
        st.tuples(st.just("heading"), LINES),
        st.tuples(st.just("text"), LINES),
        st.tuples(st.just("list"), st.lists(LINES, min_size=1, max_size=4)),
        st.tuples(
            st.just("table"), st.lists(st.lists(WORDS, min_size=2, max_size=2), min_size=2, max_size=4)
        ),
    ),
    min_size=1,
    max_size=8,
)
Blocks = list[tuple[str, Any]]


def words_in(blocks: Blocks) -> list[str]:
    found: list[str] = []
    for kind, content in blocks:
        if kind in {"heading", "text"}:
            found += content.split()
        elif kind == "list":
            found += [word for line in content for word in line.split()]
        else:
            found += [cell for row in content for cell in row]
    return found


def write_html(blocks: Blocks) -> bytes:
    parts = []
    for kind, content in blocks:
        if kind == "heading":
            parts.append(f"<h2>{content}</h2>")
        elif kind == "text":
            parts.append(f"<p>{escape(content)}")
        elif kind == "list":
            parts.append("<ul>" + "".join(f"<li>{line}" for line in content) + "</ul>")
        else:
            rows = ("".join(f"<td>{cell}" for cell in row) for row in content)
            parts.append("<table>" + "".join(f"<tr>{row}" for row in rows) + "</table>")
    return "\n".join(parts).encode()


def write_markdown(blocks: Blocks) -> bytes:
    parts = []
    for kind, content in blocks:
        if kind == "heading":
            parts.append(f"## {content}")
        elif kind == "text":
            parts.append(content)
        elif kind == "list":
            parts.append("\n".join(f"- {line}" for line in content))
        else:
            rows = [f"| {' | '.join(row)} |" for row in content]
            parts.append("\n".join([rows[0], "|---|---|", *rows[1:]]))
    return "\n\n".join(parts).encode()


def write_docx(blocks: Blocks) -> bytes:
    def write(document: Any) -> None:
        for kind, content in blocks:
            if kind == "heading":
                document.add_heading(content, 2)
            elif kind == "text":
                document.add_paragraph(content)
            elif kind == "list":
                for line in content:
                    document.add_paragraph(line, style="List Bullet")
            else:
                table = document.add_table(rows=len(content), cols=2)
                for row, cells in enumerate(content):
                    table.cell(row, 0).text, table.cell(row, 1).text = cells

    return make_docx(write)


def write_pptx(blocks: Blocks) -> bytes:
    def write(presentation: Any) -> None:
        for kind, content in blocks:
            slide = presentation.slides.add_slide(presentation.slide_layouts[1])
            frame = slide.placeholders[1].text_frame
            if kind == "heading":
                slide.shapes.title.text = content
            elif kind == "text":
                frame.text = content
            elif kind == "list":
                frame.text = "\n".join(content)
            else:
                table = slide.shapes.add_table(len(content), 2, 0, 0, 1000, 1000).table
                for row, cells in enumerate(content):
                    table.cell(row, 0).text, table.cell(row, 1).text = cells

    return make_pptx(write)


def write_xlsx(blocks: Blocks) -> bytes:
    def write(workbook: Any) -> None:
        for kind, content in blocks:
            sheet = workbook.add_worksheet()
            rows = (
                content
                if kind == "table"
                else [[line] for line in (content if kind == "list" else [content])]
            )
            for number, row in enumerate(rows):
                sheet.write_row(number, 0, row)

    return make_xlsx(write)


def write_pdf(blocks: Blocks) -> bytes:
    def write(pdf: Any) -> None:
        for kind, content in blocks:
            pdf.set_font("helvetica", size=16 if kind == "heading" else 10)
            lines = content if kind == "list" else [content] if kind != "table" else []
            for line in lines:
                pdf.multi_cell(0, 8, line, new_x="LMARGIN", new_y="NEXT")
            if kind == "table":
                with pdf.table() as table:
                    for cells in content:
                        row = table.row()
                        for cell in cells:
                            row.cell(cell)
                pdf.ln(8)

    return make_pdf(write)


def write_mail(blocks: Blocks) -> bytes:
    mail = EmailMessage()
    mail["From"] = "ada@example.org"
    mail.set_content(write_html(blocks).decode(), subtype="html")
    return bytes(mail)


FORMATS: dict[str, Callable[[Blocks], bytes]] = {
    "a.html": write_html,
    "a.md": write_markdown,
    "a.docx": write_docx,
    "a.pptx": write_pptx,
    "a.xlsx": write_xlsx,
    "a.pdf": write_pdf,
    "a.eml": write_mail,
}


@pytest.mark.parametrize("name", sorted(FORMATS))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(BLOCKS)
@example([("heading", "Notes"), ("heading", "Notes"), ("text", "of the day")])
def test_every_word_is_found_again_as_often_as_it_was_written(name: str, blocks: Blocks) -> None:
    document = read(name, FORMATS[name](blocks))
    found = Counter(word.strip("|") for word in words_of(document))
    missing = Counter(words_in(blocks)) - found
    assert not missing, (document.sections, document.problems)
