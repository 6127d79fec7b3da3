"""Word lists that scorers use, read from the package's data once."""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Literal

LexiconName = Literal["refusals", "toxic_words", "languages"]


@cache
def load_lexicon(name: LexiconName) -> Mapping[str, tuple[str, ...]]:
    """Return language code to words or phrases, as they stand in `penstock/data/scorers/NAME.toml`."""
    text = files("penstock").joinpath("data", "scorers", f"{name}.toml").read_text(encoding="utf-8")
    return {language: tuple(words) for language, words in tomllib.loads(text).items()}
