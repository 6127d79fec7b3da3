"""Finds prompts that would ask themselves: a prompt's model may be a prompt, and a route's target too. Pure."""

from collections.abc import Callable, Mapping, Sequence

from penstock.prompts.errors import PromptLoop

MAX_DEPTH = 8


def refuse_loops(
    start: str,
    model: str | None,
    *,
    model_of: Callable[[str], tuple[str, str | None] | None],
    routes: Mapping[str, Sequence[str]],
) -> None:
    """Raise `PromptLoop` when asking `model` for the prompt `start` comes back to `start`, or goes too deep.

    `model_of` returns name and model of a prompt that is named as a model, None for what is no prompt; `routes` says
    which prompts and routes a route asks.
    """
    ways: list[tuple[str, ...]] = [(f"prompt:{start}", model)] if model else []
    while ways:
        way = ways.pop()
        if len(way) > MAX_DEPTH:
            raise PromptLoop(f"The prompt asks through too many others: {' → '.join(way)}.")
        found = model_of(way[-1])
        if found is not None:
            name, following = found
            nexts = [following] if following else []
            if f"prompt:{name}" in {each.partition("@")[0] for each in way[:-1]}:
                raise PromptLoop(
                    f"The prompt asks itself: {' → '.join(way)}.", hint="Name another model in one of them."
                )
        else:
            nexts = list(routes.get(way[-1], ()))
            if way[-1] in way[:-1]:
                raise PromptLoop(
                    f"The prompt asks itself: {' → '.join(way)}.", hint="Name another model in one of them."
                )
        ways += [(*way, each) for each in nexts]
