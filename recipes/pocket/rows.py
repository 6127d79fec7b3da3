"""Rows: one context with several questions, ready for the model, and how rows are stacked into a batch.

It knows token ids and hints but not where sentences come from. A *hint* is the list of mark numbers under which a
question word occurs (`NO_MARK` where it occurs nowhere, empty where no hint is given).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model import Tree
from tokens import ASSISTANT, BOS, END, SYSTEM, UNKNOWN_ANSWER, USER, Coder
from words import is_content, split_pieces, stem_of


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question about a row's sentences; `answer` is the sentence's index, None for "I do not know"."""

    question: str
    answer: int | None


@dataclass(frozen=True, kw_only=True)
class Branch:
    prompt: list[int]
    hints: list[tuple[int, ...]]  # by prompt token
    reply: list[int]


@dataclass(frozen=True, kw_only=True)
class Row:
    context: list[int]
    mark_of: list[int]  # by context token, the number of the mark it stands under, -1 for none
    branches: list[Branch]

    def size(self) -> int:
        """Token slots after the branches are padded to the longest."""
        return len(self.context) + len(self.branches) * max(
            len(b.prompt) + len(b.reply) for b in self.branches
        )


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Stacked rows. `target` is -1 where there is no loss; `is_first` marks the token that names the sentence."""

    tree: Tree
    target: Tensor
    is_first: Tensor
    mark_of: Tensor
    hint: Tensor  # [B, N, n_marks + 1], each row sums to one or zero
    n_tokens: int


def grounded_row(
    coder: Coder,
    sentences: Sequence[str],
    asked: Sequence[Asked],
    first_mark: int = 0,
    system: str | None = None,
    reply_limit: int | None = None,
) -> Row:
    """Make a row of numbered sentences and questions; marks count up from `first_mark` (0-based).

    With `reply_limit` only the first tokens of each reply are kept: choosing is learnt there, copying elsewhere.
    """
    context = [coder.control[BOS]]
    if system is not None:
        context += [coder.control[SYSTEM], *coder.encode(system), coder.control[END]]
    context.append(coder.control[USER])
    mark_of = [-1] * len(context)
    coded: list[list[int]] = []
    where: dict[str, set[int]] = {}
    newline = coder.encode("\n")
    for index, sentence in enumerate(sentences):
        number = first_mark + index
        pieces = split_pieces(" " + sentence)
        for piece in pieces:
            if is_content(piece):
                where.setdefault(stem_of(piece), set()).add(number)
        ids = [token for piece in pieces for token in coder.encode_piece(piece)]
        coded.append([coder.marks[number], *ids])
        line = [*coded[-1], *newline]
        context += line
        mark_of += [number] * len(line)
    unknown = coder.encode(UNKNOWN_ANSWER)
    branches: list[Branch] = []
    for item in asked:
        prompt = coder.encode("Question:")
        hints: list[tuple[int, ...]] = [()] * len(prompt)
        for piece in split_pieces(" " + item.question):
            ids = coder.encode_piece(piece)
            prompt += ids
            hint: tuple[int, ...] = ()
            if is_content(piece):
                hint = tuple(sorted(where.get(stem_of(piece), ()))) or (len(coder.marks),)
            hints += [()] * (len(ids) - 1) + [hint]
        prompt += [coder.control[END], coder.control[ASSISTANT]]
        hints += [(), ()]
        reply = list(unknown) if item.answer is None else list(coded[item.answer])
        branches.append(Branch(prompt=prompt, hints=hints, reply=[*reply, coder.control[END]][:reply_limit]))
    return Row(context=context, mark_of=mark_of, branches=branches)


def chat_row(coder: Coder, turns: Sequence[tuple[str, str]]) -> Row:
    """Make a row of short exchanges without passages; each turn is its own branch."""
    context = [coder.control[BOS], coder.control[USER]]
    branches: list[Branch] = []
    for said, reply in turns:
        prompt = [*coder.encode(said), coder.control[END], coder.control[ASSISTANT]]
        branches.append(
            Branch(prompt=prompt, hints=[()] * len(prompt), reply=[*coder.encode(reply), coder.control[END]])
        )
    return Row(context=context, mark_of=[-1, -1], branches=branches)


def stack_rows(rows: Sequence[Row], coder: Coder) -> Batch:
    """Pad rows to one tree; rows with fewer branches get empty ones."""
    n_rows = len(rows)
    n_context = max(len(row.context) for row in rows)
    n_branches = max(len(row.branches) for row in rows)
    length = max(len(b.prompt) + len(b.reply) - 1 for row in rows for b in row.branches)
    n_hints = len(coder.marks) + 1
    context = torch.full((n_rows, n_context), coder.control["<|pad|>"])
    mark_of = torch.full((n_rows, n_context), -1)
    tokens = torch.full((n_rows, n_branches, length), coder.control["<|pad|>"])
    target = torch.full((n_rows, n_branches, length), -1)
    is_first = torch.zeros(n_rows, n_branches, length, dtype=torch.bool)
    hint = torch.zeros(n_rows, n_branches, length, n_hints)
    for r, row in enumerate(rows):
        context[r, : len(row.context)] = torch.tensor(row.context)
        mark_of[r, : len(row.context)] = torch.tensor(row.mark_of)
        for b, branch in enumerate(row.branches):
            whole = branch.prompt + branch.reply[:-1]
            start = len(branch.prompt) - 1
            tokens[r, b, : len(whole)] = torch.tensor(whole)
            target[r, b, start : len(whole)] = torch.tensor(branch.reply)
            is_first[r, b, start] = True
            for position, numbers in enumerate(branch.hints):
                for number in numbers:
                    hint[r, b, position, number] = 1.0 / len(numbers)
    lengths = torch.tensor([len(row.context) for row in rows])
    tree = make_tree(context, lengths, tokens)
    return Batch(
        tree=tree,
        target=target.flatten(1),
        is_first=is_first.flatten(1),
        mark_of=mark_of,
        hint=hint.flatten(1, 2),
        n_tokens=tree.position.numel(),
    )


def make_tree(context: Tensor, lengths: Tensor, branches: Tensor) -> Tree:
    """Positions and mask for contexts `[B, C]` of the given lengths and branches `[B, K, N]`."""
    n_rows, n_context = context.shape
    _, n_branches, length = branches.shape
    position = torch.empty(n_rows, n_context + n_branches * length, dtype=torch.long)
    position[:, :n_context] = torch.arange(n_context)
    steps = torch.arange(length).repeat(n_branches)
    position[:, n_context:] = lengths[:, None] + steps
    owner = torch.arange(n_branches).repeat_interleave(length)
    own = (owner[:, None] == owner) & (steps[:, None] >= steps)
    seen = (torch.arange(n_context) < lengths[:, None])[:, None, :].expand(-1, n_branches * length, -1)
    allowed = torch.cat((seen, own.expand(n_rows, -1, -1)), dim=2)
    mask = torch.zeros(allowed.shape).masked_fill_(~allowed, float("-inf"))[:, None]
    return Tree(context=context, branches=branches.flatten(1), position=position, mask=mask)
