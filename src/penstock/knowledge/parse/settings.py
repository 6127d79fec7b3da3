"""What the settings of parsing may be, besides their numbers. Checked once, before any document is read."""

from penstock.base.errors import InvalidInput
from penstock.knowledge.chunk.errors import UnusableRecipe
from penstock.knowledge.parse.ocr import LANGUAGE
from penstock.spec.knowledge import ParseRecipe
from penstock.telemetry.personal_data import check_kinds


def check_settings(recipe: ParseRecipe) -> None:
    """Raise `UnusableRecipe` that names the first setting that nobody could follow."""
    try:
        check_kinds(recipe.scrub.kinds)
    except InvalidInput as error:
        raise UnusableRecipe(f"parse.scrub.kinds: {error.message}", hint=error.hint) from error
    for each in recipe.languages:
        if not LANGUAGE.fullmatch(each):
            raise UnusableRecipe(
                f"parse.languages: {each!r} is no language of text recognition.",
                hint="Such as deu, eng or chi_sim: `tesseract --list-langs` names those that are there.",
            )
