"""What some rows ask and answer, as it is compared: keys of rows that say the same, and which hold a held-out question."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from penstock.tuning.bulk_ids import PlainTalk
from penstock.tuning.rows.overlap import (
    Hashes,
    HeldIndex,
    WordHashes,
    find_overlaps,
    normalise,
    text_key,
    word_sequences,
)
from penstock.tuning.rows.types import TrainingRow


class Said:
    """Rows, as far as they are compared with others."""

    def __init__(self, words: WordHashes, *, has_held: bool) -> None:
        """Without `has_held`, words and turns are not hashed: nothing will be looked for."""
        self.numbers: list[int] = []
        self._words = words
        self._has_held = has_held
        self._keys: list[bytes] = []
        self._questions: list[bytes] = []
        self._hashed: list[bytes] = []
        self._turns: list[bytes] = []
        self._places: list[int] = []
        """Of the row that each of the turns is of."""

    def add(self, number: int, rows: Sequence[TrainingRow]) -> None:
        """Take in what became of one row of the dataset."""
        question = normalise(rows[0].question)
        self._add(number, question, [normalise(each.answer) for each in rows], _learnt_texts(rows))
        if self._has_held:
            self._add_turns(_asked_texts(rows))

    def add_plain(self, number: int, talk: PlainTalk) -> None:
        """Take in a conversation, as `add` does when it is read whole."""
        roles, contents = talk
        asked = [text for role, text in zip(roles[:-1], contents, strict=False) if role != "system"]
        question = normalise("\n".join(asked))
        answer = normalise(contents[-1])
        if len(asked) == 1 and roles[-2] == "user":  # its key is that of the question
            self._add(number, question, (answer,), (answer,))
            return
        said = zip(roles, contents, strict=True)
        self._add(
            number, question, (answer,), [normalise(text) for role, text in said if role == "assistant"]
        )
        if self._has_held:
            turns = zip(roles, contents, strict=True)
            self._add_turns(normalise(text) for role, text in turns if role == "user")

    def keys(self) -> Hashes:
        """Return a key for each row: equal for those that say the same."""
        return np.frombuffer(b"".join(self._keys), "<u8").astype(np.uint64)

    def find_overlaps(self, held: Iterable[HeldIndex]) -> Iterator[tuple[str, int]]:
        """Yield the name of the index and the number of the row that holds a question of it."""
        if not self.numbers or not self._has_held:
            return
        asked = np.frombuffer(b"".join(self._questions), "<u8")
        turns = np.frombuffer(b"".join(self._turns), "<u8")
        places = np.array(self._places, np.int64)
        sequences = word_sequences(self._hashed)
        for index in held:
            is_met = find_overlaps(index, asked, sequences)
            is_met[places[np.isin(turns, index.exact)]] = True
            for place in np.flatnonzero(is_met):
                yield index.name, self.numbers[int(place)]

    def _add(self, number: int, question: str, answers: Iterable[str], learnt: Iterable[str]) -> None:
        self.numbers.append(number)
        self._keys.append(text_key("\0".join([question, *answers])))
        if self._has_held:
            self._questions.append(text_key(question))
            self._hashed.append(self._words.hash_words(" ".join((question, *learnt))))

    def _add_turns(self, texts: Iterable[str]) -> None:
        """Take in the user's turns of the last row, each by itself: a test's question may be any of them."""
        place = len(self.numbers) - 1
        for text in texts:
            self._turns.append(text_key(text))
            self._places.append(place)


def _learnt_texts(rows: Sequence[TrainingRow]) -> Iterator[str]:
    """Yield what the model would learn to say of one row of the dataset, as it is compared."""
    for row in rows:
        said = [each for each in row.messages if each.get("role") == "assistant"]
        for message in (*said, *row.chosen, *row.rejected):
            if isinstance(content := message.get("content"), str):
                yield normalise(content)


def _asked_texts(rows: Sequence[TrainingRow]) -> Iterator[str]:
    for message in rows[0].messages:
        if message.get("role") == "user" and isinstance(content := message.get("content"), str):
            yield normalise(content)
