"""Build the handbook corpus that ships with Penstock from its Markdown sources.

    python recipes/handbook/build.py [--out FOLDER]

Reads `articles/*.md` (with front matter: title, format, split) and `questions/*.jsonl` beside this file;
writes `articles/<slug>.<md|html|pdf|docx|csv>`, `questions.jsonl`, `sentences.jsonl` (each article's sentences by
section, from which cases are made) and `DATASHEET.md`. Same sources, same text: PDF and DOCX carry fixed dates. Needs fpdf2 and python-docx (the `dev` extra).
"""

import argparse
import csv
import html
import io
import json
import re
import zipfile
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import docx
from fpdf import FPDF

HERE = Path(__file__).parent
OUT = HERE.parents[1] / "src" / "penstock" / "data" / "handbook"
FIXED_DATE = datetime(2026, 11, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading (None for the opening) and its paragraphs."""

    heading: str | None
    paragraphs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Article:
    """One source article."""

    slug: str
    title: str
    format: str
    split: str
    sections: tuple[Section, ...]

    @property
    def n_words(self) -> int:
        """Words of the article, headings included."""
        texts = [self.title, *(section.heading or "" for section in self.sections)]
        texts += [text for section in self.sections for text in section.paragraphs]
        return sum(len(text.split()) for text in texts)


def read_article(path: Path) -> Article:
    """Return the article in `path`; raise ValueError when its front matter is not as agreed."""
    _, front, body = path.read_text().split("---\n", 2)
    fields = dict(line.split(": ", 1) for line in front.strip().splitlines())
    sections: list[Section] = []
    heading: str | None = None
    for part in re.split(r"^(## .+)$", body, flags=re.MULTILINE):
        if part.startswith("## "):
            heading = part[3:].strip()
            continue
        blocks = [" ".join(block.split()) for block in part.split("\n\n")]
        paragraphs = tuple(block for block in blocks if block and not block.startswith("# "))
        sections.append(Section(heading=heading, paragraphs=paragraphs))
    return Article(
        slug=path.stem,
        title=fields["title"],
        format=fields["format"],
        split=fields["split"],
        sections=tuple(sections),
    )


def write_markdown(article: Article) -> bytes:
    """Return the article as plain Markdown."""
    lines = [f"# {article.title}"]
    for section in article.sections:
        if section.heading:
            lines.append(f"## {section.heading}")
        lines.extend(section.paragraphs)
    return ("\n\n".join(lines) + "\n").encode()


def write_html(article: Article) -> bytes:
    """Return the article as a page with the boilerplate that real pages have around their content."""
    body: list[str] = []
    for section in article.sections:
        if section.heading:
            body.append(f"    <h2>{html.escape(section.heading)}</h2>")
        body.extend(f"    <p>{html.escape(text)}</p>" for text in section.paragraphs)
    title = html.escape(article.title)
    return f"""<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <title>{title} | The Handbook</title>
  <style>body {{ max-width: 40rem; margin: auto }}</style>
</head>
<body>
  <header><nav><a href="/">Home</a> <a href="/topics">Topics</a> <a href="/about">About the handbook</a></nav></header>
  <main>
    <h1>{title}</h1>
{chr(10).join(body)}
  </main>
  <footer>General knowledge, not medical advice. <a href="/contact">Contact</a></footer>
  <script>window.handbook = true;</script>
</body>
</html>
""".encode()


def write_pdf(article: Article) -> bytes:
    """Return the article as an A4 PDF: headings in larger type, page numbers at the foot."""
    page = FPDF(format="A4")
    page.set_creation_date(FIXED_DATE)
    page.set_title(article.title)
    page.set_margins(25, 25)
    page.set_auto_page_break(auto=True, margin=25)
    page.add_page()
    page.set_font("helvetica", "B", 20)
    page.multi_cell(0, 10, article.title, new_x="LMARGIN", new_y="NEXT")
    for section in article.sections:
        if section.heading:
            page.ln(3)
            page.set_font("helvetica", "B", 14)
            page.multi_cell(0, 8, section.heading, new_x="LMARGIN", new_y="NEXT")
        page.set_font("helvetica", "", 11)
        for text in section.paragraphs:
            page.multi_cell(0, 6, text, align="L", new_x="LMARGIN", new_y="NEXT")
            page.ln(2)
    return bytes(page.output())


def write_docx(article: Article) -> bytes:
    """Return the article as a Word document with heading styles."""
    document = docx.Document()
    properties = document.core_properties
    properties.title, properties.author = article.title, "The Handbook"
    properties.created = properties.modified = FIXED_DATE.replace(tzinfo=None)
    document.add_heading(article.title, level=1)
    for section in article.sections:
        if section.heading:
            document.add_heading(section.heading, level=2)
        for text in section.paragraphs:
            document.add_paragraph(text)
    buffer = io.BytesIO()
    document.save(buffer)
    return with_fixed_times(buffer.getvalue())


def with_fixed_times(archive: bytes) -> bytes:
    """Return the zip archive with every entry stamped 1980-01-01, so that the same text gives the same bytes."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(archive)) as old,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for entry in old.infolist():
            new.writestr(zipfile.ZipInfo(entry.filename), old.read(entry), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def write_csv(article: Article) -> bytes:
    """Return the article as a table with one sentence a row."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["section", "guidance"])
    for section in article.sections:
        for text in section.paragraphs:
            for sentence in re.split(r"(?<=[.?!])\s+", text):
                writer.writerow([section.heading or article.title, sentence])
    return buffer.getvalue().encode()


WRITERS = {"md": write_markdown, "html": write_html, "pdf": write_pdf, "docx": write_docx, "csv": write_csv}


def read_questions(article: Article) -> list[dict[str, Any]]:
    """Return the article's questions with its file name and split filled in."""
    rows = []
    for line in (HERE / "questions" / f"{article.slug}.jsonl").read_text().splitlines():
        row = json.loads(line)
        row |= {"document": f"{article.slug}.{article.format}", "split": article.split}
        rows.append(row)
    return rows


def list_sentences(article: Article) -> dict[str, Any]:
    """Return the article's sentences by section, as cases show them to a model."""
    sections = [
        [sentence for text in section.paragraphs for sentence in re.split(r"(?<=[.?!])\s+", text)]
        for section in article.sections
    ]
    return {"article": article.slug, "split": article.split, "sections": [each for each in sections if each]}


def write_datasheet(articles: list[Article], questions: list[dict[str, Any]]) -> str:
    """Return the datasheet, counted from the data."""
    words = [article.n_words for article in articles]
    formats = Counter(article.format for article in articles)
    table = "\n".join(
        f"| {split} | {sum(a.split == split for a in articles)} "
        f"| {sum(q['split'] == split and q['answer'] is not None for q in questions)} "
        f"| {sum(q['split'] == split and q['answer'] is None for q in questions)} |"
        for split in ("train", "heldout")
    )
    return f"""# Datasheet: the handbook

A small handbook on health and wellness, written for Penstock as its fixture for retrieval, evaluation, tuning and the
demo. General knowledge in a careful tone; it is not medical advice, and its articles say when to ask a clinician.

- Articles: {len(articles)}, {min(words)} to {max(words)} words each, {sum(words):,} words in all.
- Formats: {", ".join(f"{count} {name}" for name, count in sorted(formats.items()))}.
- Questions: {len(questions)}; each answerable one has an answer that is one sentence of its article, and its section.
  The others lie near the topic and are answered nowhere in the handbook (`answer` is null).
- Split by article: a held-out question concerns an article that nothing was trained on.

| split | articles | answerable questions | unanswerable questions |
|---|--:|--:|--:|
{table}

`alternatives` are other phrasings of the question. Personal data: none. Sources: written from general knowledge in the
authors' own words. Licence: Apache-2.0. Built by `recipes/handbook/build.py`.
"""


def build(out: Path) -> tuple[list[Article], list[dict[str, Any]]]:
    """Write the whole corpus below `out` and return what was written."""
    articles = [read_article(path) for path in sorted((HERE / "articles").glob("*.md"))]
    folder = out / "articles"
    folder.mkdir(parents=True, exist_ok=True)
    for article in articles:
        (folder / f"{article.slug}.{article.format}").write_bytes(WRITERS[article.format](article))
    questions = [row for article in articles for row in read_questions(article)]
    (out / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions))
    (out / "sentences.jsonl").write_text(
        "".join(json.dumps(list_sentences(article), ensure_ascii=False) + "\n" for article in articles)
    )
    (out / "DATASHEET.md").write_text(write_datasheet(articles, questions))
    return articles, questions


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=OUT)
    chosen = parser.parse_args()
    made, asked = build(chosen.out)
    print(f"{len(made)} articles and {len(asked)} questions written to {chosen.out}")
