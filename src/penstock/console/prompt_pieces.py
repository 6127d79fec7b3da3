"""A prompt as a model was given it: what people wrote apart from the control tokens of its template. Pure.

Tokens are known by their looks, not by a tokenizer: what somebody wrote that looks like one is shown as one.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

ENDING_CHARS = 140
_CONTROL = re.compile(r"<\|[^|<>\s]{1,40}\|>|<(?:start|end)_of_turn>|</?s>|<(?:bos|eos|pad)>|\[/?INST\]")
_ROLE = re.compile(r"^(?:system|developer|user|assistant|model|tool)(?:\s*\n|$)")


@dataclass(frozen=True, kw_only=True)
class PromptPiece:
    """A stretch of the prompt; all pieces together are the prompt, character by character."""

    text: str
    is_control: bool = False


def split_prompt(prompt: str) -> tuple[PromptPiece, ...]:
    """Return the prompt in pieces, none of them empty."""
    pieces: list[PromptPiece] = []
    at = 0
    for hit in _CONTROL.finditer(prompt):
        if hit.start() > at:
            pieces.append(PromptPiece(text=prompt[at : hit.start()]))
        pieces.append(PromptPiece(text=hit[0], is_control=True))
        at = hit.end()
    if at < len(prompt):
        pieces.append(PromptPiece(text=prompt[at:]))
    return tuple(pieces)


def end_of_prompt(pieces: Sequence[PromptPiece]) -> str:
    """Return the last `ENDING_CHARS` characters of what was written last, without the role that some templates write before it."""
    for piece in reversed(pieces):
        written = "" if piece.is_control else _ROLE.sub("", piece.text.strip()).strip()
        if written:
            return written if len(written) <= ENDING_CHARS else f"… {written[-ENDING_CHARS:].lstrip()}"
    return ""
