"""Picks the few-shot examples of a prompt: fixed rows, the nearest to what is asked, or some by a seeded draw."""

import math
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any

from penstock.base.digest import digest_json
from penstock.base.errors import PenstockError
from penstock.prompts.errors import BadExamples
from penstock.prompts.types import Embed, Rows
from penstock.spec.prompts import FewShot, PromptContent
from penstock.templating.examples import choose_examples
from penstock.templating.render import fill_text
from penstock.templating.values import text_of
from penstock.templating.work import Work

MAX_POOL = 1000
"""Rows of a dataset that `nearest` and `random` choose from: its first ones."""
_MAX_POOLS = 64
_PINNED = re.compile(r"@\d+\Z")
Row = dict[str, Any]


class ExamplePicker:
    """Picks rows. Pools of pinned versions and their vectors are kept, since they never change. Thread-safe."""

    def __init__(self, rows: Rows | None = None, embed: Embed | None = None) -> None:
        self._rows = rows
        self._embed = embed
        self._kept: OrderedDict[tuple[str, ...], Any] = OrderedDict()
        self._lock = Lock()

    def pick(
        self, content: PromptContent, variables: Mapping[str, Any], history: Sequence[Mapping[str, Any]] = ()
    ) -> list[Row]:
        """Return the rows that go into the prompt, best last; raise `BadExamples` when they cannot be had."""
        few = content.few_shot
        if few is None or few.count == 0:
            return []
        if few.pick == "fixed":
            rows = few.rows if few.dataset is None else self._read(few, few.count, few.ids)
            return choose_examples(few, rows, variables)
        pool = self.pool(few)
        if few.pick == "random":
            return choose_examples(few, pool, variables, history)
        return self._nearest(few, pool, variables, question_of(content, variables, history))

    def pool(self, few: FewShot) -> list[Row]:
        """Return the rows that `nearest` and `random` choose from."""
        return list(few.rows) if few.dataset is None else self._read(few, MAX_POOL, ())

    def _read(self, few: FewShot, limit: int, ids: Sequence[str]) -> list[Row]:
        assert few.dataset is not None
        if self._rows is None:
            raise BadExamples(f"The examples lie in {few.dataset}, and datasets cannot be read here.")
        try:
            # a name or an alias may stand for other rows the next time; only a numbered version never does
            dataset = few.dataset if _PINNED.search(few.dataset) else self._rows.pin(few.dataset)
            key = ("rows", dataset, str(limit), *ids)
            found = self._get(key)
            is_new = found is None
            if found is None:
                found = self._rows.read(dataset, limit=limit, ids=ids)
        except PenstockError as error:
            raise BadExamples(f"The examples cannot be read: {error.message}", hint=error.hint) from error
        if is_new:
            if missing := [each for each in ids if all(row.get("id") != each for row in found)]:
                raise BadExamples(f"{few.dataset} has no row {', '.join(missing[:5])}.")
            self._keep(key, found)
        return list(found)

    def _nearest(
        self, few: FewShot, pool: Sequence[Row], variables: Mapping[str, Any], question: str
    ) -> list[Row]:
        if self._embed is None:
            raise BadExamples("The nearest examples need an embedding model, and there is none here.")
        work = Work()
        texts = [
            fill_text("few_shot.input_template", few.input_template, {**variables, **row}, work)
            for row in pool
        ]
        if not texts:
            return []
        key = ("vectors", digest_json(texts))
        vectors = self._get(key)
        if vectors is None:
            vectors = [_unit(vector) for vector in self._embed(texts)]
            self._keep(key, vectors)
        asked = _unit(self._embed([question])[0])
        scores = [
            (sum(a * b for a, b in zip(asked, vector, strict=True)), -place)
            for place, vector in enumerate(vectors)
        ]
        best = sorted(range(len(pool)), key=lambda place: scores[place], reverse=True)[: few.count]
        return [pool[place] for place in reversed(best)]  # the most alike stands next to the question

    def _get(self, key: tuple[str, ...]) -> Any:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def _keep(self, key: tuple[str, ...], value: Any) -> None:
        with self._lock:
            self._kept[key] = value
            while len(self._kept) > _MAX_POOLS:
                self._kept.popitem(last=False)


def question_of(
    content: PromptContent, variables: Mapping[str, Any], history: Sequence[Mapping[str, Any]]
) -> str:
    """Return what is asked: the variable `input`, else all texts given, else the last message of the history."""
    if isinstance(variables.get("input"), str):
        return str(variables["input"])
    texts = [
        value
        for name, variable in content.variables.items()
        if variable.required and isinstance(value := variables.get(name), str)
    ]
    if texts:
        return "\n".join(texts)
    return text_of(history[-1].get("content")) if history else ""


def _unit(vector: Sequence[float]) -> list[float]:
    length = math.sqrt(sum(value * value for value in vector))
    return [float(value) / length for value in vector] if length else [float(value) for value in vector]
