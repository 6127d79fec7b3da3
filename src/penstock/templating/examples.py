"""Which rows of a pool become examples, where no embedding is needed. Pure: the same case gets the same rows everywhere."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from penstock.base.digest import digest_json
from penstock.spec.prompts import FewShot
from penstock.templating.values import text_of


def choose_examples(
    few: FewShot,
    pool: Sequence[Mapping[str, Any]],
    variables: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]] = (),
) -> list[dict[str, Any]]:
    """Return the first `count` rows, or with `random` as many drawn by a seed that the case gives."""
    if few.pick != "random":
        return [dict(row) for row in pool[: len(few.ids) or few.count]]
    asked = [
        few.seed,
        {name: text_of(value) for name, value in variables.items()},
        [dict(turn) for turn in history],
    ]
    rng = random.Random(digest_json(asked))
    return [dict(row) for row in rng.sample(list(pool), min(few.count, len(pool)))]
