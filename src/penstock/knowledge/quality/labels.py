"""Which passages of a generation fulfil a label, by what the label says rather than by passage ids.

Cutting documents anew gives other passages with other ids; a label that names a document, a section or words stays valid.
Words are looked up in runs of four, so that a quotation that was cut in two, or a text that another parser spells a little
differently, is found; a label that no passage can fulfil says why.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from penstock.base.errors import suggest
from penstock.knowledge.quality.types import Granularity, Label, LabelledQuestion, MappedLabel
from penstock.knowledge.quality.words import cover, split_words

ENOUGH = 0.5
"""Share of the shorter one's words that passage and quotation have in common for the one to fulfil the other."""
STANDS = 0.6
"""Share of a quotation's words that must stand in a document at all."""
QUITE = 0.95
_DOCUMENT, _SECTION, _WORDS = range(3)
_SECTION_MARKS = (" › ", " > ", " / ")


@dataclass(frozen=True, kw_only=True)
class PassageText:
    """A passage of a generation."""

    id: str
    section: str | None
    anchor: str | None
    text: str
    position: int = 0
    document_id: str = ""


_How = Literal["document", "section", "moved"]
_TRIED = 5


class Corpus(Protocol):
    """The documents of one generation."""

    @property
    def paths(self) -> Sequence[str]:
        """Of all documents, readable or not."""
        ...

    def passages(self, path: str) -> Sequence[PassageText]:
        """Return the passages of a document in reading order; none when it is unknown or could not be read."""
        ...

    def error(self, path: str) -> str | None:
        """Return why a document could not be read, or None."""
        ...

    def find_text(self, passage_id: str) -> tuple[str, str] | None:
        """Return path and text of a passage of any generation of this base, or None."""
        ...

    def find_section(self, path: str, section: str) -> str | None:
        """Return the text of a section as another version of the document was cut, or None."""
        ...

    def find_shingle(self, words: Sequence[str]) -> Sequence[str]:
        """Return the paths of documents that hold any of these runs of words, those that hold most first."""
        ...

    def find_older(self, path: str) -> str | None:
        """Return the text of the newest version of a document that other generations held, or None: there was none."""
        ...

    def add_prefixes(self, path: str) -> Sequence[str]:
        """Return the paths that a document has when its path was told without the prefix of its source."""
        ...


def choose_labels(question: LabelledQuestion, by: Granularity) -> list[Label]:
    """Return the labels that count, at the granularity that was asked for; none when the question has no such label.

    With `finest`, a document's coarser labels step back behind finer ones that say what is right; what was judged
    and not relevant is said beside them. Judged words say nothing of the section or document that they stand in.
    """
    labels = question.labels
    if by == "answer":
        if not question.answer or not question.answer.strip():
            return []
        document = next((label.document for label in labels if label.document and label.grade > 0), None)
        return [Label(document=document, quote=question.answer)]
    if by == "document":
        best: dict[str, int] = {}
        for label in labels:
            if label.document is not None and (label.grade > 0 or _fineness(label) == _DOCUMENT):
                best[label.document] = max(label.grade, best.get(label.document, 0))
        return [Label(document=document, grade=grade) for document, grade in best.items()]
    if by == "quote":
        return [label for label in labels if label.quote is not None]
    if by == "section":
        return [
            Label(document=label.document, section=label.section, grade=label.grade)
            for label in labels
            if label.section is not None and (label.grade > 0 or _fineness(label) == _SECTION)
        ]
    finest: dict[str | None, int] = {}
    for label in labels:
        if label.grade > 0:
            finest[label.document] = max(_fineness(label), finest.get(label.document, 0))
    return [label for label in labels if label.grade <= 0 or _fineness(label) >= finest[label.document]]


def _fineness(label: Label) -> int:
    if label.quote is not None or label.passage_id is not None:
        return _WORDS
    return _DOCUMENT if label.section is None else _SECTION


class LabelMapper:
    """Maps labels to the passages of one generation. Each label is worked out once."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self._paths = frozenset(corpus.paths)
        self._known: dict[Label, MappedLabel] = {}
        self._words: dict[str, list[tuple[PassageText, list[str]]]] = {}
        self._places: dict[str, str | None] = {}
        self._moved: set[str] = set()

    def map(self, label: Label) -> MappedLabel:
        """Return the label with the passages that fulfil it, or with the reason why none does."""
        if label not in self._known:
            self._known[label] = self._map(label)
        return self._known[label]

    def _map(self, label: Label) -> MappedLabel:
        if label.passage_id is not None and label.quote is None:
            return self._by_id(label)
        path = None
        if label.document is not None:
            path = self._find_path(label.document)
            if path is None and label.quote is None:
                return MappedLabel(label=label, reason=self._unknown(label.document))
        if path is not None and not self._corpus.passages(path):
            error = self._corpus.error(path)
            why = f"{path} could not be read: {error}" if error else f"{path} has no text"
            n_words = len(split_words(label.quote or ""))
            return MappedLabel(label=label, reason=why, n_words=n_words)
        if label.quote is not None:
            return self._by_words(label, label.quote, path)
        assert path is not None
        if label.section is not None:
            return self._by_section(label, path, label.section)
        passages = [each.id for each in self._corpus.passages(path)]
        return MappedLabel(label=label, passages=passages, how=self._how("document", label))

    def _find_path(self, document: str) -> str | None:
        if document in self._paths:
            return document
        if document not in self._places:
            self._places[document] = self._find_elsewhere(document)
        return self._places[document]

    def _find_elsewhere(self, document: str) -> str | None:
        """Return where a document stands now that is not where a label says; names alone prove nothing."""
        older = self._corpus.find_older(document)
        if older is None:
            told = self._corpus.add_prefixes(document)
            return told[0] if len(told) == 1 else None
        words = split_words(older)
        for path in self._corpus.find_shingle(words)[:_TRIED] if words else ():
            covered = [cover(words, own) for _, own in self._read(path)]
            if len(set().union(*covered)) >= STANDS * len(words):
                self._moved.add(document)
                return path
        return None

    def _how(self, how: _How, label: Label) -> _How:
        return "moved" if label.document in self._moved else how

    def _unknown(self, document: str) -> str:
        near = suggest(document, sorted(self._paths))
        return f"this generation holds no document {document!r}" + (f". {near}" if near else "")

    def _by_id(self, label: Label) -> MappedLabel:
        assert label.passage_id is not None
        found = self._corpus.find_text(label.passage_id)
        if found is None:
            return MappedLabel(label=label, reason=f"no generation holds a passage {label.passage_id!r}")
        path, text = found
        known = self._find_path(path)
        if known is not None and any(each.id == label.passage_id for each in self._corpus.passages(known)):
            n_words = len(split_words(text))
            held = {label.passage_id: list(range(n_words))}
            return MappedLabel(label=label, passages=[label.passage_id], how="id", n_words=n_words, held=held)
        return self._by_words(label, text, known)

    def _by_section(self, label: Label, path: str, section: str) -> MappedLabel:
        wanted = _plain(section)
        found = [
            each.id
            for each in self._corpus.passages(path)
            if wanted in _names_of(each.section) or (each.anchor is not None and each.anchor == section)
        ]
        if found:
            return MappedLabel(label=label, passages=found, how=self._how("section", label))
        text = self._corpus.find_section(label.document or path, section)
        if text is not None:  # cut across sections here; where it begins and ends is told by another cutting
            return self._by_words(label, text, path)
        return MappedLabel(label=label, reason=f"{path} has no section {section!r}")

    def _by_words(self, label: Label, quote: str, path: str | None) -> MappedLabel:
        words = split_words(quote)
        if not words:
            return MappedLabel(label=label, reason="the quotation has no words")
        tried = [path] if path is not None else []
        found = self._match(words, path) if path is not None else None
        if found is None:
            others = [each for each in self._corpus.find_shingle(words) if each not in tried][:5]
            found = next((match for each in others if (match := self._match(words, each))), None)
        if found is None:
            where = f"in {path} any more" if path is not None else "in any document of this generation"
            return MappedLabel(label=label, reason=f"its words do not stand {where}", n_words=len(words))
        ids, held = found
        share = len(set().union(*held.values())) / len(words)
        return MappedLabel(
            label=label,
            passages=ids,
            how="words" if share >= QUITE else "near",
            n_words=len(words),
            held=held,
        )

    def _match(self, quote: Sequence[str], path: str) -> tuple[list[str], dict[str, list[int]]] | None:
        """Return the passages of a document that fulfil a quotation, and which of its words each passage holds."""
        covered = [(each, len(words), cover(quote, words)) for each, words in self._read(path)]
        all_of_it = len(set().union(*(places for _, _, places in covered))) / len(quote) if covered else 0.0
        if all_of_it < STANDS:
            return None
        shares = [
            (each.id, len(places) / min(len(quote), max(1, n_words))) for each, n_words, places in covered
        ]
        enough = [name for name, share in shares if share >= ENOUGH]
        if not enough:  # cut into many pieces: those that hold most of it
            best = max(share for _, share in shares)
            enough = [name for name, share in shares if share >= 0.8 * best]
        return enough, {each.id: sorted(places) for each, _, places in covered if places}

    def _read(self, path: str) -> list[tuple[PassageText, list[str]]]:
        if path not in self._words:
            self._words[path] = [(each, split_words(each.text)) for each in self._corpus.passages(path)]
        return self._words[path]


class Quotation(NamedTuple):
    """Words that should be found, and where they stand."""

    n_words: int
    held: Mapping[str, frozenset[int]]
    """Passage to the places of the words that it holds."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """What one question should find in a generation: by passage, the names of the needs that it meets."""

    wanted: tuple[str, ...]
    """Names of needs; labels that the same passages fulfil are one need."""
    meets: Mapping[str, frozenset[str]]
    """Passage id to the needs that it meets."""
    judged: frozenset[str]
    """Passages that some label says something of, relevant or not."""
    grades: Mapping[str, int]
    unmapped: tuple[MappedLabel, ...] = ()
    quotations: tuple[Quotation, ...] = ()


def make_target(
    mapped: Iterable[MappedLabel], *, count_unmapped: bool, keys: Sequence[Hashable] | None = None
) -> Target:
    """Return what a question should find. Labels that nothing fulfils count as wanted only with `count_unmapped`.

    Labels that the same passages fulfil are one need; with `keys`, one for each label, those of one key are. Passages
    that were judged and not relevant fulfil no coarser label, unless it had nothing else.
    """
    given = list(mapped)
    told = [frozenset(each.passages) for each in given]
    judged = frozenset().union(*told)
    wrong = [
        (_fineness(each.label), ids) for each, ids in zip(given, told, strict=True) if each.label.grade <= 0
    ]
    needs: dict[Hashable, _Need] = {}
    lost: list[MappedLabel] = []
    for at, (each, ids) in enumerate(zip(given, told, strict=True)):
        if each.label.grade <= 0:
            continue
        if not ids:
            lost.append(each)
            if not count_unmapped:
                continue
        key = keys[at] if keys is not None else ids or at
        known = needs.get(key)
        right = ids - frozenset().union(*(bad for fine, bad in wrong if fine > _fineness(each.label))) or ids
        needs[key] = (
            _Need(each.label.name, each.label.grade, right)
            if known is None
            else _Need(known.name, max(known.grade, each.label.grade), known.passages | right)
        )
    meets: dict[str, set[str]] = {}
    grades: dict[str, int] = {}
    for number, need in enumerate(needs.values()):
        unique = f"{number}: {need.name}" if need.passages else f"lost {number}: {need.name}"
        grades[unique] = need.grade
        for passage in need.passages:
            meets.setdefault(passage, set()).add(unique)
    return Target(
        wanted=tuple(grades),
        meets={passage: frozenset(found) for passage, found in meets.items()},
        judged=judged,
        grades=grades,
        unmapped=tuple(lost),
        quotations=tuple(
            Quotation(each.n_words, {name: frozenset(places) for name, places in each.held.items()})
            for each in given
            if each.label.grade > 0 and each.n_words and (each.passages or count_unmapped)
        ),
    )


class _Need(NamedTuple):
    name: str
    grade: int
    passages: frozenset[str]


def _plain(text: str) -> str:
    return " ".join(split_words(text))


def _names_of(section: str | None) -> set[str]:
    if section is None:
        return set()
    names = {_plain(section)}
    for mark in _SECTION_MARKS:
        if mark in section:
            names.add(_plain(section.rsplit(mark, 1)[1]))
    return names
