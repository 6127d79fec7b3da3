"""Held-out texts as ids, with a mark on each token that counts: a conversation's replies, or the whole of a plain text."""

from collections.abc import Sequence
from typing import Protocol

from penstock.base.errors import PenstockError
from penstock.spec.messages import Message
from penstock.tuning.compress.chances import Marked
from penstock.tuning.compress.errors import CannotMeasure
from penstock.tuning.compress.types import TextItem


class MarkingRenderer(Protocol):
    """Turns conversations and texts into ids."""

    @property
    def digest(self) -> str:
        """Of everything that shapes the ids."""
        ...

    def render_chat(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> list[int]:
        """Return the ids of a conversation."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, between the tokenizer's own start and end tokens."""
        ...


def mark_item(item: TextItem, renderer: MarkingRenderer) -> Marked | None:
    """Return the item as ids, or None where nothing counts.

    Of a conversation the last reply counts, with the token that ends it, after the very ids that asking for it would send.
    Raises `CannotMeasure` for a template that writes history otherwise than the prompt that was answered.
    """
    if item.text is not None:
        ids = renderer.encode_texts([item.text])[0]
        mask = [0] + [1] * (len(ids) - 1)
        return _marked(item, ids, mask, item.text)
    if not item.messages or item.messages[-1].role != "assistant":
        return None
    prompt = renderer.render_chat(item.messages[:-1], add_generation_prompt=True)
    whole = renderer.render_chat(item.messages, add_generation_prompt=False)
    if whole[: len(prompt)] != prompt:
        raise CannotMeasure(
            f"Row {item.row}: the chat template writes an answered turn otherwise than the prompt it answers.",
            hint="Perplexity would be that of text the model never sees when it serves.",
        )
    mask = [0] * len(prompt) + [1] * (len(whole) - len(prompt))
    return _marked(item, whole, mask, item.messages[-1].content)


def mark_items(items: Sequence[TextItem], renderer: MarkingRenderer) -> tuple[list[Marked], int]:
    """Return the items as ids, and how many of them hold nothing that counts."""
    found = []
    n_left_out = 0
    for item in items:
        try:
            marked = mark_item(item, renderer)
        except CannotMeasure:
            raise
        except PenstockError as error:
            raise CannotMeasure(f"Row {item.row} cannot be rendered: {error.message}") from error
        if marked is None:
            n_left_out += 1
        else:
            found.append(marked)
    return found, n_left_out


def _marked(item: TextItem, ids: Sequence[int], mask: Sequence[int], text: str) -> Marked | None:
    if not any(mask[1:]):
        return None
    return Marked(
        row=item.row,
        group=item.group,
        ids=tuple(ids),
        mask=tuple(mask),
        n_bytes=len(text.encode("utf-8", "replace")),
    )
