"""Pictures of text (scans, screenshots): read by text recognition where the recipe asks for it."""

import io

from penstock.knowledge.errors import UnreadableDocument
from penstock.knowledge.parse.ocr import MAX_PIXELS, recognise
from penstock.knowledge.parse.text import SectionBuilder
from penstock.knowledge.types import ParsedDocument
from penstock.spec.knowledge import ParseRecipe

MAX_FRAMES = 500


def parse_image(data: bytes, recipe: ParseRecipe = ParseRecipe()) -> ParsedDocument:
    """Return what is written on a picture, a section a frame."""
    if recipe.ocr == "off":
        raise UnreadableDocument(
            "the file is a picture.", hint="Text recognition reads it: set parse.ocr to auto."
        )
    from PIL import Image, UnidentifiedImageError

    builder = SectionBuilder()
    problems: list[str] = []
    try:
        with Image.open(io.BytesIO(data)) as picture:
            media_type = Image.MIME.get(picture.format or "", "image/unknown")
            n_frames = int(getattr(picture, "n_frames", 1))
            if picture.width * picture.height > MAX_PIXELS:
                raise UnreadableDocument(f"the picture has more than {MAX_PIXELS:,} points.")
            for number in range(min(n_frames, MAX_FRAMES)):
                picture.seek(number)
                paragraphs, problem = recognise(picture, recipe.languages)
                builder.start(None, anchor=f"page={number + 1}", page=number + 1)
                for paragraph in paragraphs:
                    builder.add(paragraph)
                problems.append(problem or f"page {number + 1} was read by text recognition")
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise UnreadableDocument("the picture is broken.", hint="Save it anew as PNG.") from error
    if n_frames > MAX_FRAMES:
        problems.append(f"pages after {MAX_FRAMES} were not read")
    return ParsedDocument(
        title=None,
        media_type=media_type,
        sections=builder.finish(),
        problems=tuple(problems),
        n_pages=n_frames,
    )
