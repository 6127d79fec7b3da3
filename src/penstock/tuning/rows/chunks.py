"""Some hundred rows at a time: read, rendered, cut to length, looked at. Pure, so that several processes can share it.

What comes back is arrays and counts, never messages: a million rows pass through in the memory of a few thousand.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter, itemgetter
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from penstock.base.errors import PenstockError
from penstock.spec.datasets import DatasetRow
from penstock.spec.messages import Message
from penstock.spec.tuning import LossOn, Truncation
from penstock.tuning.bulk_ids import Bulk
from penstock.tuning.errors import PrefixBroken
from penstock.tuning.renderer import Renderer
from penstock.tuning.rows.examples import Example, fit_length, prompt_of, split_reply
from penstock.tuning.rows.messages import read_messages
from penstock.tuning.rows.overlap import HeldIndex, WordHashes
from penstock.tuning.rows.plain import PlainRow, Sequences, merge, sample_prompts
from penstock.tuning.rows.reading import RowReader
from penstock.tuning.rows.said import Said
from penstock.tuning.rows.types import TrainingRow
from penstock.tuning.training_ids import Rendered

Trouble = Literal[
    "not-understood", "prefix-broken", "empty-mask", "no-stop", "too-long", "template-text", "same-answers",
    "double-bos", "outside-vocabulary", "contaminated", "split-by-turn",
]  # fmt: skip
MAX_ROWS_TOLD = 20
_FEW = 8
"""Learnt tokens up to which it is looked whether they say anything."""
_TURN_BEGINS = re.compile(
    r"<\|im_start\|>|<\|start_header_id\|>|<start_of_turn>|\[INST\]|<\|(?:user|assistant|system)\|>|<\|begin_of_text\|>"
)
"""How turns begin in templates of other families: the base may not know them as tokens, and would learn them as text."""
NumberedRow = tuple[int, DatasetRow]
Talk = tuple[list[Message], Sequence[dict[str, object]]]


@dataclass(kw_only=True)
class Chunk:
    """What became of some rows."""

    n_read: int = 0
    n_kept: int = 0
    n_truncated: int = 0
    n_dropped: int = 0
    n_lost_tokens: int = 0
    n_split_by_turn: int = 0
    columns: list[NDArray[np.int32]] = field(default_factory=list)
    sizes: list[NDArray[np.int64]] = field(default_factory=list)
    """Tokens in each column of each sequence."""
    mask: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))
    labels: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))
    rows: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """The row that each sequence is of."""
    lengths: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """Before anything was cut."""
    trained: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    keys: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    """Equal for rows that say the same; one for each row of `numbers`."""
    numbers: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    samples: list[dict[str, Any]] = field(default_factory=list)
    troubles: dict[tuple[Trouble, str], tuple[int, list[int]]] = field(default_factory=dict)
    """Kind and detail to the number of rows and the first of them."""


@dataclass(frozen=True, kw_only=True)
class RowWork:
    """How rows become sequences; the same for every chunk."""

    renderer: Renderer
    reader: RowReader
    max_length: int
    loss_on: LossOn = "assistant"
    truncate: Truncation = "error"
    vocab_size: int | None = None
    """Of the embedding table."""
    held: tuple[HeldIndex, ...] = ()
    n_samples: int = 0
    """Of so many rows of a chunk the prompt of the last turn is kept, with the reply that it should get."""

    def work(self, rows: Iterable[NumberedRow], words: WordHashes) -> Chunk:
        """Return what becomes of some rows."""
        chunk = Chunk()
        troubles = _Troubles()
        read, plain = self._read(rows, chunk, troubles, words)
        bulk = self._write_bulk(plain, read)
        kept: list[Example] = []
        lengths: list[int] = []
        trained: list[int] = []
        for row, sequences in self._render(read, troubles):
            self._look(row, sequences, troubles)
            lengths += [each.size for each in sequences]
            cut = [fit for each in sequences for fit in self._fit(row, each, chunk, troubles)]
            chunk.n_kept += bool(cut)
            if cut and len(chunk.samples) < self.n_samples and not row.is_text and row.label is not False:
                chunk.samples.append(
                    {"prompt": prompt_of(cut[-1]), "reference": _reference(row), "row": row.number}
                )
            kept += cut
            trained += [each.n_learnt for each in cut]
        _put_together(kept, chunk)
        chunk.lengths, chunk.trained = np.array(lengths, np.int64), np.array(trained, np.int64)
        if bulk is not None and len(bulk.taken):
            taken = [plain[place] for place in bulk.taken.tolist()]
            _put_between(chunk, bulk, [each.number for each in taken])
            samples = chunk.samples + sample_prompts(bulk, taken, self.n_samples)
            chunk.samples = sorted(samples, key=itemgetter("row"))[: self.n_samples]
        chunk.troubles = troubles.told()
        return chunk

    def _read(
        self, rows: Iterable[NumberedRow], chunk: Chunk, troubles: "_Troubles", words: WordHashes
    ) -> tuple[list[TrainingRow], list[PlainRow]]:
        """Return the rows, with their keys and their overlaps told; apart those that are read no further yet."""
        read: list[TrainingRow] = []
        plain: list[PlainRow] = []
        said = Said(words, has_held=bool(self.held))
        for number, row in rows:
            chunk.n_read += 1
            talk = self.reader.read_plain(row)
            if talk is not None and not any(map(self._is_odd, talk.contents)):
                said.add_plain(number, talk)
                plain.append(PlainRow(number=number, row=row, talk=talk))
                continue
            try:
                found = self.reader.read(number, row)
            except PenstockError as error:
                troubles.add("not-understood", error.message, number)
                continue
            said.add(number, found)
            read += found
        chunk.keys, chunk.numbers = said.keys(), np.array(said.numbers, np.int64)
        for name, number in said.find_overlaps(self.held):
            troubles.add("contaminated", name, number)
        return read, plain

    def _is_odd(self, content: str) -> bool:
        """Whether there could be something to tell about a content, or to do with it."""
        if ("<" in content or "[" in content) and _TURN_BEGINS.search(content) is not None:
            return True
        return not self.renderer.is_plain(content)

    def _write_bulk(self, plain: Sequence[PlainRow], read: list[TrainingRow]) -> Bulk | None:
        """Return the sequences of the plain rows; those that have to be looked at one by one join the others."""
        bulk = None
        is_outside = self.vocab_size is not None and self.renderer.vocab_size > self.vocab_size
        if plain and not is_outside and not any(row.is_text for row in read):
            talks = [each.talk for each in plain]
            bulk = self.renderer.render_bulk(talks, loss_on=self.loss_on, max_length=self.max_length)
        taken = frozenset(() if bulk is None else bulk.taken.tolist())
        if len(taken) < len(plain):
            left = [each for place, each in enumerate(plain) if place not in taken]
            read += [row for each in left for row in self.reader.read(each.number, each.row)]
            read.sort(key=attrgetter("number"))
        return bulk

    def _render(
        self, rows: list[TrainingRow], troubles: "_Troubles"
    ) -> Iterable[tuple[TrainingRow, list[Example]]]:
        """Yield each row with its sequences; those without are told."""
        texts = [row for row in rows if row.is_text]
        plain = self.renderer.render_plain([row.answer for row in texts])
        for row, text in zip(texts, plain, strict=True):
            yield row, [Example(row=row.number, columns=(text.ids,), mask=text.mask)]
        talks: list[tuple[TrainingRow, list[Talk]]] = []
        for row in rows:
            if not row.is_text:
                try:
                    talks.append((row, _talks_of(row)))
                except PenstockError as error:
                    troubles.add("not-understood", error.message, row.number)
        flat = [talk for _, each in talks for talk in each]
        untrained = [row.untrained for row, each in talks for _ in each]
        loss_on = self.loss_on if self.reader.kind == "supervised" else "last_turn"
        found = iter(self.renderer.render_sequences(flat, loss_on=loss_on, untrained=untrained))
        for row, each in talks:
            rendered = [next(found) for _ in each]
            wrongs = [one for one in rendered if isinstance(one, PenstockError)]
            if wrongs:
                wrong = wrongs[0]
                is_broken = isinstance(wrong, PrefixBroken)
                kind: Trouble = "prefix-broken" if is_broken else "not-understood"
                troubles.add(kind, "" if is_broken else wrong.message, row.number, wrong.message)
                continue
            sequences = [one for group in rendered if isinstance(group, list) for one in group]
            if not all(one.stops for one in sequences):
                troubles.add("no-stop", "", row.number)
            yield row, self._columns(row, sequences, troubles)

    def _columns(self, row: TrainingRow, rendered: list[Rendered], troubles: "_Troubles") -> list[Example]:
        if not row.chosen:
            if len(rendered) > 1:
                troubles.add("split-by-turn", "", row.number)
            return [Example(row=row.number, columns=(each.ids,), mask=each.mask) for each in rendered]
        cut = [split_reply(each) for each in rendered]
        if len(cut) == 2 and cut[0][1] == cut[1][1]:
            troubles.add("same-answers", "", row.number)
        return [Example(row=row.number, columns=(cut[0][0], *(reply for _, reply in cut)), label=row.label)]

    def _look(self, row: TrainingRow, sequences: list[Example], troubles: "_Troubles") -> None:
        """Tell what is wrong with the ids themselves."""
        bos, stops = self.renderer.bos_id, self.renderer.stop_ids
        is_outside = self.vocab_size is not None and self.renderer.vocab_size > self.vocab_size
        for each in sequences:
            ids = each.columns[0]
            if bos is not None and len(ids) > 1 and ids[0] == ids[1] == bos:
                troubles.add("double-bos", "", row.number)
            if (not each.mask or each.mask.count(1) <= _FEW) and _learns_nothing(each, stops):
                troubles.add("empty-mask", "", row.number)
            if is_outside and max(map(max, filter(None, each.columns)), default=0) >= (self.vocab_size or 0):
                troubles.add("outside-vocabulary", "", row.number)
        text = self._template_text(row)
        if text is not None:
            troubles.add("template-text", text, row.number)

    def _template_text(self, row: TrainingRow) -> str | None:
        """Return a token of the template that a message spells out: the row was rendered before it came here."""
        for message in (*row.messages, *row.chosen, *row.rejected):
            content = message.get("content")
            if isinstance(content, str) and ("<" in content or "[" in content):
                known = _TURN_BEGINS.search(content)
                found = self.renderer.find_template_text(content) if known is None else known[0]
                if found is not None:
                    return found
        return None

    def _fit(self, row: TrainingRow, sequence: Example, chunk: Chunk, troubles: "_Troubles") -> list[Example]:
        """Return the sequence in the length that is allowed: itself, cut, in pieces, or not at all."""
        if sequence.size <= self.max_length:
            return [sequence]
        troubles.add("too-long", "", row.number)
        fitted = fit_length(
            sequence, self.max_length, self.truncate, bos=self.renderer.bos_id, is_text=row.is_text
        )
        chunk.n_truncated += bool(fitted)
        chunk.n_dropped += not fitted
        chunk.n_lost_tokens += sequence.size - sum(each.size for each in fitted)
        return fitted


class _Troubles:
    """Rows by what is wrong with them: all counted, the first remembered."""

    def __init__(self) -> None:
        self._rows: dict[tuple[Trouble, str], dict[int, None]] = defaultdict(dict)
        self._texts: dict[tuple[Trouble, str], str] = {}

    def add(self, kind: Trouble, detail: str, number: int, text: str = "") -> None:
        self._rows[(kind, detail)][number] = None
        self._texts.setdefault((kind, detail), text or detail)

    def told(self) -> dict[tuple[Trouble, str], tuple[int, list[int]]]:
        return {
            (kind, self._texts[(kind, detail)]): (len(rows), list(rows)[:MAX_ROWS_TOLD])
            for (kind, detail), rows in self._rows.items()
        }


def _learns_nothing(example: Example, stops: Sequence[int]) -> bool:
    """Return whether an answer to learn is empty: no token but such that end a turn."""
    ids = example.columns[0]
    if not example.mask:
        return any(all(token in stops for token in reply) for reply in example.columns[1:])
    return all(token in stops for token, is_learnt in zip(ids, example.mask, strict=True) if is_learnt)


def _reference(row: TrainingRow) -> str:
    """Return the reply that a sample should get."""
    answer = row.chosen or row.messages
    content = answer[-1].get("content")
    return content if isinstance(content, str) else row.answer


def _talks_of(row: TrainingRow) -> list[Talk]:
    if not row.chosen:
        return [(read_messages(row.messages), row.tools)]
    answers = [row.chosen, row.rejected] if row.rejected else [row.chosen]
    return [(read_messages([*row.messages, *answer]), row.tools) for answer in answers]


def _put_together(kept: list[Example], chunk: Chunk) -> None:
    n_columns = len(kept[0].columns) if kept else 0
    for column in range(n_columns):
        joined: list[int] = []
        for each in kept:
            joined += each.columns[column]
        chunk.columns.append(np.array(joined, np.int32))
        chunk.sizes.append(np.array([len(each.columns[column]) for each in kept], np.int64))
    chunk.mask = np.frombuffer(b"".join(each.mask for each in kept), np.uint8)
    chunk.rows = np.array([each.row for each in kept], np.int64)
    chunk.labels = np.array([each.label for each in kept if each.label is not None], np.uint8)


def _put_between(chunk: Chunk, bulk: Bulk, numbers: Sequence[int]) -> None:
    """Put the sequences of plain rows between those that the chunk has, in the order of the rows."""
    found = Sequences(ids=bulk.ids, sizes=bulk.sizes, mask=bulk.mask, rows=np.array(numbers, np.int64))
    if len(chunk.rows):
        there = Sequences(ids=chunk.columns[0], sizes=chunk.sizes[0], mask=chunk.mask, rows=chunk.rows)
        found = merge(there, found)
    chunk.columns, chunk.sizes, chunk.mask, chunk.rows = [found.ids], [found.sizes], found.mask, found.rows
    chunk.lengths = np.concatenate([chunk.lengths, bulk.sizes])
    chunk.trained = np.concatenate([chunk.trained, bulk.n_learnt])
    chunk.n_kept += len(numbers)
