"""Scrubbing: personal data masked or the document refused, before anything of it is cut, embedded or shown.

Everything that leaves the parser is looked through: text, headings, title, properties and the problem lines. A
place is masked whole or not at all.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence

import msgspec

from penstock.knowledge.errors import PersonalDataRefused
from penstock.knowledge.parse.text import slug_of
from penstock.knowledge.types import ParsedDocument, Section
from penstock.spec.knowledge import PropertyValue, Scrubbing
from penstock.telemetry.personal_data import PersonalKind, check_kinds, mask_personal


def scrub_document(document: ParsedDocument, policy: Scrubbing) -> ParsedDocument:
    """Return the document as the policy wants it; raise `PersonalDataRefused` where it wants none.

    An unknown kind raises `InvalidInput`: a misspelt rule must not mask nothing.
    """
    if policy.action == "keep":
        return document
    mask = _Mask(check_kinds(policy.kinds))
    masked = dataclasses.replace(
        document,
        title=mask.text(document.title) if document.title else None,
        sections=tuple(mask.section(section) for section in document.sections),
        problems=tuple(mask.text(problem) for problem in document.problems),
        properties=msgspec.structs.replace(
            document.properties,
            values={name: mask.value(value) for name, value in document.properties.values.items()},
            url=mask.text(document.properties.url) if document.properties.url else None,
        ),
    )
    if not mask.counts:
        return document
    found = ", ".join(f"{count} {kind}" for kind, count in sorted(mask.counts.items()))
    if policy.action == "refuse":
        raise PersonalDataRefused(
            f"it holds personal data: {found}.", hint="The recipe refuses such documents (parse.scrub)."
        )
    return dataclasses.replace(masked, problems=(*masked.problems, f"personal data was masked: {found}"))


class _Mask:
    def __init__(self, kinds: Sequence[PersonalKind]) -> None:
        self.kinds = kinds
        self.counts: Counter[str] = Counter()

    def text(self, text: str) -> str:
        """Return the text masked, and count."""
        masked, counts = mask_personal(text, self.kinds)
        self.counts.update(counts)
        return masked

    def quiet(self, text: str) -> str:
        """Return the text masked where the same place is counted elsewhere."""
        return mask_personal(text, self.kinds)[0]

    def section(self, section: Section) -> Section:
        """Return the section masked, its anchor made from the masked heading."""
        heading = section.heading
        masked = self.text(heading) if heading is not None else None
        anchor = section.anchor
        if masked != heading and masked is not None and heading is not None and anchor is not None:
            anchor = anchor.replace(slug_of(heading), slug_of(masked))
        return dataclasses.replace(
            section,
            heading=masked,
            text=self.text(section.text),
            anchor=self.quiet(anchor) if anchor is not None else None,
            headings=tuple(self.quiet(each) for each in section.headings),
        )

    def value(self, value: PropertyValue) -> PropertyValue:
        """Return a property masked."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.text(each) for each in value]
        return value
