"""The nouns of knowledge: parsed documents and their sections."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Section:
    """A stretch of text under one heading. Paragraphs are separated by a blank line."""

    heading: str | None
    """None for what stands before the first heading."""
    text: str
    anchor: str | None = None
    """Where a reader can open it: `page=3`, `row=12`, or a fragment such as `how-much-sleep`."""


@dataclass(frozen=True, kw_only=True)
class ParsedDocument:
    """What a parser found. `problems` names everything that was in the file and is not in the sections."""

    title: str | None
    media_type: str
    sections: tuple[Section, ...]
    problems: tuple[str, ...] = ()

    @property
    def n_chars(self) -> int:
        """Characters of text in all sections."""
        return sum(len(section.text) for section in self.sections)
