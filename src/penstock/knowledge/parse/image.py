"""Pictures of text (scans, screenshots): read by text recognition where the recipe asks for it."""

from penstock.knowledge.errors import UnreadableDocument
from penstock.knowledge.parse.ocr import recognise
from penstock.knowledge.parse.text import SectionBuilder
from penstock.knowledge.types import ParsedDocument
from penstock.spec.knowledge import ParseRecipe

_MARKS = {
    b"\x89PNG": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"II*\x00": "image/tiff",
    b"MM\x00*": "image/tiff",
}


def parse_image(data: bytes, recipe: ParseRecipe = ParseRecipe()) -> ParsedDocument:
    """Return what is written on a picture, a section a page."""
    media_type = next((kind for mark, kind in _MARKS.items() if data.startswith(mark)), None)
    if media_type is None:
        raise UnreadableDocument("the file is no PNG, JPEG or TIFF picture.", hint="Save it as PNG.")
    if recipe.ocr == "off":
        raise UnreadableDocument(
            "the file is a picture.", hint="Text recognition reads it: set parse.ocr to auto."
        )
    pages, problem = recognise(data, recipe.languages)
    if problem is not None:
        raise UnreadableDocument(f"{problem}.")
    builder = SectionBuilder()
    for number, paragraphs in enumerate(pages, start=1):
        builder.start(None, anchor=f"page={number}", page=number)
        for paragraph in paragraphs:
            builder.add(paragraph)
    problems = tuple(
        f"page {number} was read by text recognition" if paragraphs else f"page {number} holds no text"
        for number, paragraphs in enumerate(pages, start=1)
    )
    return ParsedDocument(
        title=None,
        media_type=media_type,
        sections=builder.finish(),
        problems=problems,
        n_pages=len(pages),
    )
