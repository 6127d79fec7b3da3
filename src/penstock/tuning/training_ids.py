"""Conversations → sequences to train on: ids with a mask, true to what the model is given when it replies.

For each trained reply two texts are rendered: what the engine is given (with the generation prompt), and that with
the reply. The second must begin with the first, in ids and not only in characters; what follows is learnt, up to and
with the token that ends the turn. Replies share one sequence while each prompt begins with the sequence so far; where a
template rewrites its history (reasoning of earlier turns is dropped), each gets a sequence of its own.

The surprise: a reply that begins with a line break can melt into one token with the prompt's last line break. Serving
never gives the model that token, so such a reply is encoded apart from its prompt.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from penstock.base.errors import PenstockError
from penstock.spec.messages import Message
from penstock.spec.tuning import LossOn
from penstock.tuning.chat_outline import Outline, begins_with
from penstock.tuning.chat_template import ChatTemplate
from penstock.tuning.control_text import ControlText
from penstock.tuning.errors import PrefixBroken, RowNotUnderstood

_SHOWN = 60


class Rendered(msgspec.Struct, frozen=True, kw_only=True):
    """A sequence to train on."""

    ids: list[int]
    mask: bytes
    """As long as `ids`: 1 where the loss counts. `zip(ids, mask)` gives ints; `numpy.frombuffer(mask, "u1")` an array."""
    stops: bool = True
    """Whether each trained reply ends with a token that ends a turn, and that token is in the mask."""


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """Marked messages, and the places of the replies to learn."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    marker: str
    turns: tuple[int, ...]
    is_whole: bool = False
    """Whether the loss counts everywhere."""


class _Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A rendered sequence whose plain texts are still to be encoded."""

    steps: list[list[int] | str]
    """Ids of control tokens and plain texts, in order."""
    begins: list[tuple[int, str]]
    """Where each trained reply begins: the number of the step, and what of its text belongs to the prompt yet."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The draft of every conversation with the same roles: texts are put in where a step names messages."""

    steps: list[list[int] | Outline | int]
    """Ids of control tokens, texts with contents in them, contents alone by the number of their message."""
    begins: list[tuple[int, str]]


class Plans:
    """Drafts without rendering, for templates that copy contents."""

    def __init__(self, template: ChatTemplate, text: ControlText) -> None:
        self._template = template
        self._text = text
        self._known: dict[tuple[tuple[str, ...], tuple[int, ...], bool], Plan | None] = {}

    def find(self, roles: tuple[str, ...], turns: tuple[int, ...], *, is_whole: bool) -> Plan | None:
        """Return the draft of conversations with these roles; None where each has to be rendered."""
        key = (roles, turns, is_whole)
        if key not in self._known:
            self._known[key] = self._make(*key)
        return self._known[key]

    def draft(self, talk: Conversation) -> _Draft | None:
        """Return what `_draft` would, or None where the conversation has to be rendered."""
        copying = self._template.copying
        if copying is None or talk.tools:
            return None
        contents: list[str] = []
        for message in talk.messages:
            content = message["content"]
            if len(message) != 2 or talk.marker in content:
                return None
            if copying.trims and (content[:1].isspace() or content[-1:].isspace()):
                return None
            contents.append(content)
        roles = tuple([message["role"] for message in talk.messages])
        plan = self.find(roles, talk.turns, is_whole=talk.is_whole)
        if plan is None:
            return None
        steps = [
            step
            if isinstance(step, list)
            else contents[step]
            if isinstance(step, int)
            else "".join([each if isinstance(each, str) else contents[each] for each in step])
            for step in plan.steps
        ]
        return _Draft(steps=steps, begins=plan.begins)

    def _make(self, roles: tuple[str, ...], turns: tuple[int, ...], is_whole: bool) -> Plan | None:
        """Return the plan; None where only the texts themselves can say whether turns share a sequence."""
        outline = self._template.outline
        whole = outline(roles, add_generation_prompt=False)
        prompts: list[Outline] = []
        so_far: Outline = ()
        for place in () if is_whole else turns:
            prompt = outline(roles[:place], add_generation_prompt=True)
            end = outline(roles[: place + 1], add_generation_prompt=False)
            if (
                prompt is None
                or end is None
                or not begins_with(prompt, so_far)
                or not begins_with(end, prompt)
            ):
                return None
            so_far = end
            prompts.append(prompt)
        if whole is None or not begins_with(whole, so_far):
            return None
        return self._lay_out(whole, prompts)

    def _lay_out(self, whole: Outline, prompts: Sequence[Outline]) -> Plan | None:
        steps: list[list[int] | Outline | int] = []
        begins: list[tuple[int, str]] = []
        now: list[str | int] = []  # the plain text since the last control token
        for number, piece in enumerate(whole):
            ends = [each[-1] for each in prompts if len(each) == number + 1]
            if isinstance(piece, int):
                if ends:
                    return None
                now.append(piece)
                continue
            if number + 1 < len(whole) and self._text.is_open(piece):
                return None
            places = [len(end) for end in ends if isinstance(end, str)]
            at = 0
            for end, part in [*self._text.cut(piece), (len(piece) + 1, "")]:
                while places and places[0] < end:
                    size = places.pop(0) - at
                    if isinstance(part, int) and size:
                        return None  # the prompt ends within a control token
                    head = [*now, part[:size]] if isinstance(part, str) else now
                    if any(isinstance(each, int) for each in head):
                        return None
                    begins.append((len(steps), "".join(map(str, head))))
                if isinstance(part, int):
                    steps += _plain_step(now)
                    if steps and isinstance(steps[-1], list) and begins[-1:] < [(len(steps), "")]:
                        steps[-1].append(part)  # no reply begins between the two
                    else:
                        steps.append([part])
                    now = []
                elif part:
                    now.append(part)
                at = end
        return None if len(begins) < len(prompts) else Plan(steps=[*steps, *_plain_step(now)], begins=begins)


def _plain_step(pieces: list[str | int]) -> list[Outline | int]:
    """Return the plain text between two control tokens as a step, if there is one."""
    if len(pieces) == 1 and isinstance(pieces[0], int):
        return [pieces[0]]
    return [tuple(pieces)] if pieces else []


def trained_turns(messages: Sequence[Message], loss_on: LossOn, untrained: frozenset[int]) -> tuple[int, ...]:
    """Return the places of the messages to learn; raise `RowNotUnderstood` where there is nothing to learn."""
    if not messages:
        raise RowNotUnderstood("It has no message.")
    turns = [place for place, message in enumerate(messages) if message.role == "assistant"]
    if not turns or messages[-1].role != "assistant":
        raise RowNotUnderstood("It does not end with the assistant, so nothing is learnt from its end.")
    if loss_on == "last_turn":
        turns = turns[-1:]
    kept = tuple(place for place in turns if place not in untrained)
    if not kept and loss_on != "all":
        raise RowNotUnderstood("No turn of the assistant is to be learnt from.")
    return kept


def write_sequences(
    talks: Sequence[Conversation | PenstockError],
    template: ChatTemplate,
    text: ControlText,
    stops: frozenset[int],
) -> list[list[Rendered] | PenstockError]:
    """Return the sequences of each conversation; errors pass through to where they belong."""
    plans = Plans(template, text)
    drafts: list[_Draft | PenstockError | None] = []
    for talk in talks:
        try:
            drafts.append(
                talk if isinstance(talk, PenstockError) else plans.draft(talk) or _draft(talk, template, text)
            )
        except PenstockError as error:
            drafts.append(error)
    known = text.encode_all(_texts_of(drafts))
    found: list[list[Rendered] | PenstockError] = []
    for talk, draft in zip(talks, drafts, strict=True):
        if isinstance(talk, PenstockError):
            found.append(talk)
        elif isinstance(draft, PenstockError):
            found.append(draft)
        else:
            whole = None if draft is None else _finish(draft, known, stops, is_whole=talk.is_whole)
            try:
                found.append([whole] if whole is not None else _by_turn(talk, template, text, stops))
            except PenstockError as error:
                found.append(error)
    return found


def _draft(talk: Conversation, template: ChatTemplate, text: ControlText) -> _Draft | None:
    """Return the conversation as one sequence, or None where its turns cannot share one."""
    whole = template.render(talk.messages, add_generation_prompt=False, tools=talk.tools)
    starts: list[int] = []
    so_far = ""
    for place in () if talk.is_whole else talk.turns:
        prompt = template.render(talk.messages[:place], add_generation_prompt=True, tools=talk.tools)
        if not prompt.startswith(so_far):
            return None
        is_last = place == len(talk.messages) - 1
        so_far = whole if is_last else _render_to(talk, place, template)
        if not so_far.startswith(prompt):
            _refuse_prefix(prompt, so_far, talk.marker)
        starts.append(len(prompt))
    if not whole.startswith(so_far):
        return None
    return _lay_out(whole, starts, talk.marker, text)


def _render_to(talk: Conversation, place: int, template: ChatTemplate) -> str:
    return template.render(talk.messages[: place + 1], add_generation_prompt=False, tools=talk.tools)


def _lay_out(whole: str, starts: Sequence[int], marker: str, text: ControlText) -> _Draft | None:
    steps: list[list[int] | str] = []
    begins: list[tuple[int, str]] = []
    at, number = 0, 0
    is_marked = marker in whole
    for end, piece in text.cut(whole):
        while number < len(starts) and starts[number] < end:
            size = starts[number] - at
            if isinstance(piece, int) and size:
                return None  # the prompt ends within a control token
            begins.append((len(steps), piece[:size].replace(marker, "") if isinstance(piece, str) else ""))
            number += 1
        if isinstance(piece, int):
            steps.append([piece])
        else:
            steps.append(piece.replace(marker, "") if is_marked else piece)
        at = end
    begins += [(len(steps), "") for _ in starts[number:]]
    return _Draft(steps=steps, begins=begins)


def _texts_of(drafts: Sequence[_Draft | PenstockError | None]) -> list[str]:
    """Return every plain text to encode."""
    texts: list[str] = []
    for draft in drafts:
        if isinstance(draft, _Draft):
            texts += [step for step in draft.steps if isinstance(step, str)]
            texts += [head for _, head in draft.begins if head]
    return texts


def _finish(
    draft: _Draft, known: Mapping[str, list[int]], stops: frozenset[int], *, is_whole: bool
) -> Rendered | None:
    """Return the sequence, or None where a reply's first token is melted into its prompt."""
    ids: list[int] = []
    places: list[int] = []
    for step in draft.steps:
        places.append(len(ids))
        ids += step if isinstance(step, list) else known[step]
    places.append(len(ids))
    if is_whole:
        return Rendered(ids=ids, mask=b"\x01" * len(ids), stops=not stops.isdisjoint(ids))
    begins: list[int] = []
    for number, head in draft.begins:
        place = places[number]
        if head:
            before = known[head]
            if ids[place : place + len(before)] != before:
                return None
            place += len(before)
        begins.append(place)
    return _masked(ids, begins, stops)


def _masked(ids: list[int], begins: Sequence[int], stops: frozenset[int]) -> Rendered:
    mask: list[bytes] = []
    at, is_ended = 0, True
    for begin, limit in zip(begins, [*begins[1:], len(ids)], strict=True):
        end = limit
        for stop in stops:
            place = _find(ids, stop, begin, end)
            end = end if place is None else place + 1
        is_ended &= end > begin and ids[end - 1] in stops
        mask += (b"\x00" * (begin - at), b"\x01" * (end - begin))
        at = end
    mask.append(b"\x00" * (len(ids) - at))
    return Rendered(ids=ids, mask=b"".join(mask), stops=is_ended)


def _find(ids: list[int], token: int, begin: int, limit: int) -> int | None:
    try:
        return ids.index(token, begin, limit)
    except ValueError:
        return None


def _by_turn(
    talk: Conversation, template: ChatTemplate, text: ControlText, stops: frozenset[int]
) -> list[Rendered]:
    """Return one sequence for each reply, each exactly as it is asked for."""
    found: list[Rendered] = []
    for place in talk.turns:
        prompt = template.render(talk.messages[:place], add_generation_prompt=True, tools=talk.tools)
        whole = _render_to(talk, place, template)
        if not whole.startswith(prompt):
            _refuse_prefix(prompt, whole, talk.marker)
        before, ids = text.encode(prompt, talk.marker), text.encode(whole, talk.marker)
        if ids[: len(before)] != before:
            if text.adds_to_front:
                _refuse_prefix(prompt, whole, talk.marker)
            ids = before + text.encode(whole[len(prompt) :], talk.marker)
        found.append(_masked(ids, [len(before)], stops))
    return found


def _refuse_prefix(prompt: str, whole: str, marker: str) -> None:
    """Raise `PrefixBroken` that shows where the two texts part."""
    prompt, whole = prompt.replace(marker, ""), whole.replace(marker, "")
    pairs = zip(prompt, whole, strict=False)
    place = next((n for n, (one, other) in enumerate(pairs) if one != other), min(len(prompt), len(whole)))
    shown = slice(max(0, place - _SHOWN // 2), place + _SHOWN // 2)
    raise PrefixBroken(
        "The template writes a reply otherwise than the model is asked for it:"
        f" asked {prompt[shown]!r}, trained {whole[shown]!r}.",
        hint="Mend the chat template: with and without add_generation_prompt it must begin alike.",
        place=place,
    )
