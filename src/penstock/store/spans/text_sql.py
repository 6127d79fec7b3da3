"""SQL of searching text: the one place that knows how text is found.

`search_text` holds name and the beginnings of input and output in lower case. Input or output alone is looked up in the
payload too, but only of spans whose `search_text` has the words.
"""

import json
from typing import Any

from penstock.spec.search import Words

Fragment = tuple[str, list[Any]]


def text_condition(words: Words, alias: str) -> Fragment:
    """Return the condition on the row `alias` of the span table that its text has these words, case-blind."""
    if words.where == "name":
        return f"contains(lower({alias}.name), lower(?))", [words.text]
    found = f"contains({alias}.search_text, lower(?))"
    if words.where == "anywhere":
        return found, [words.text]
    quoted = json.dumps(words.text, ensure_ascii=False)[1:-1]
    payload = f"SELECT p.trace_id, p.span_id FROM payloads p WHERE contains(lower(p.{words.where}), lower(?))"  # noqa: S608 - names of ours
    return f"({found} AND ({alias}.trace_id, {alias}.span_id) IN ({payload}))", [words.text, quoted]
