"""Measures versions side by side on engines started for it: size, speed, held-out texts, and replies to a task's cases.

For a process of its own: native code runs in here. All versions are loaded together, so that rounds of speed can take turns and a
version can be held against the first one token by token. The engines are those that serve, with the version's own sampling.
"""

import gc
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from penstock.base.errors import PenstockError
from penstock.providers.engines.llama import LlamaEngine
from penstock.providers.engines.measuring import TokenEncoder
from penstock.providers.engines.types import Sampling, SamplingPolicy, ServedModel
from penstock.tuning.compress.chances import Reader, find_anchor, measure_row, read_head
from penstock.tuning.compress.errors import CannotMeasure, EngineDisagrees
from penstock.tuning.compress.marking import mark_items
from penstock.tuning.compress.types import (
    MeasureWork,
    RowChances,
    SizeFacts,
    SpeedPlan,
    SpeedRound,
    TaskItem,
    TaskReply,
    TextFacts,
    TextItem,
    VersionFacts,
)
from penstock.tuning.renderer import Renderer

Tell = Callable[[float, str], None]
MAX_ANCHOR = 0.25
"""Nats. Correct heads are within 0.02 at float16 and 0.1 at four bits, where the engine rounds what it multiplies with as well;
a wrong one is off by whole nats."""
N_ANCHORS = 6
_SAMPLE = "The handbook says to walk every day, to drink water before one is thirsty, and to sleep at regular hours. "
_FORBIDDEN = -1000.0


@dataclass(kw_only=True)
class Loaded:
    """One version with its engine."""

    served: ServedModel
    renderer: Renderer
    n_parameters: int | None
    engine: LlamaEngine
    size: SizeFacts


def measure(
    models: Sequence[tuple[ServedModel, Renderer, int | None]],
    work: MeasureWork,
    tell: Tell,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> list[VersionFacts]:
    """Return the facts of each version (with its renderer and number of parameters), in order.

    Raises `CannotMeasure` for what is no chat model or has too little context, `EngineDisagrees`, `EngineFailed`.
    """
    for served, _, _ in models:
        if served.kind != "chat":
            raise CannotMeasure(f"{served.version} is no chat model.", hint="Measure chat models.")
    if "speed" in work.parts:
        _check_room(models, work.speed)
    loaded = []
    for place, (served, renderer, n_parameters) in enumerate(models):
        tell(0.05 * place / len(models), f"loading {served.version.partition(' ')[0]}")
        loaded.append(_load(served, renderer, n_parameters, work, clock))
    rounds = _measure_speed(loaded, work, tell, clock) if "speed" in work.parts else [[] for _ in loaded]
    texts = (
        _measure_texts(loaded, work, tell) if "texts" in work.parts and work.texts else [None] * len(loaded)
    )
    replies = _answer(loaded, work, tell) if "tasks" in work.parts and work.tasks else [[] for _ in loaded]
    return [
        VersionFacts(
            version=each.served.version.partition(" ")[0],
            digest=each.served.digest,
            size=each.size if "size" in work.parts else None,
            speed=tuple(rounds[place]),
            texts=texts[place],
            replies=tuple(replies[place]),
        )
        for place, each in enumerate(loaded)
    ]


def _check_room(models: Sequence[tuple[ServedModel, Renderer, int | None]], speed: SpeedPlan) -> None:
    needed = max(speed.prompt_tokens + 1, speed.reply_tokens + 16)
    for served, _, _ in models:
        if needed >= served.context_length:
            raise CannotMeasure(
                f"{served.version} reads {served.context_length} tokens; measuring speed takes {needed}.",
                hint="Ask for fewer: --prompt-tokens and --reply-tokens.",
            )


# loading


def _load(
    served: ServedModel,
    renderer: Renderer,
    n_parameters: int | None,
    work: MeasureWork,
    clock: Callable[[], float],
) -> Loaded:
    n_slots = max((1, *work.speed.streams)) if "speed" in work.parts else 1

    _import_native()
    gc.collect()
    before = resident_bytes()
    began = clock()
    # loaded once: taking an engine down again right after its start can wait for ever in native code
    engine = LlamaEngine(
        served.gguf,
        kind="chat",
        context_length=served.context_length,
        n_slots=n_slots,
        n_threads=work.threads,
    )
    load_s = clock() - began
    engine.generate(_plain_ids(renderer, 16), _sampling(SamplingPolicy(), max_tokens=4), _ignore)
    after = resident_bytes()
    size = served.gguf.stat().st_size
    facts = SizeFacts(
        file_bytes=size,
        n_parameters=n_parameters,
        bits_per_parameter=8 * size / n_parameters if n_parameters else None,
        load_s=load_s,
        resident_bytes=None if before is None or after is None else max(0, after - before),
    )
    return Loaded(served=served, renderer=renderer, n_parameters=n_parameters, engine=engine, size=facts)


def _import_native() -> None:
    """Load the engine's library before memory is looked at: it is the same for all versions."""
    import xllamacpp  # noqa: F401 - 100 MB of native code, for the processes that run weights only


def resident_bytes() -> int | None:
    """Return the memory that this process holds now; None where the system does not say."""
    try:
        text = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return None
    line = next((each for each in text.splitlines() if each.startswith("VmRSS:")), None)
    return None if line is None else int(line.split()[1]) * 1024


# speed


def _measure_speed(
    loaded: Sequence[Loaded], work: MeasureWork, tell: Tell, clock: Callable[[], float]
) -> list[list[SpeedRound]]:
    plan = work.speed
    found: list[list[SpeedRound]] = [[] for _ in loaded]
    n_rounds = plan.rounds + 1
    for number in range(n_rounds):
        for streams in plan.streams:
            tell(
                0.05 + 0.35 * number / n_rounds, f"speed, round {number} of {plan.rounds}, {streams} at once"
            )
            for place, each in enumerate(_turned(loaded, number)):
                told = _one_round(each, plan, streams, number * 1000 + streams * 10, clock)
                if number:  # the first round warms caches and is not counted
                    found[(place + number) % len(loaded)].append(told)
    return found


def _turned(loaded: Sequence[Loaded], number: int) -> list[Loaded]:
    """Return the versions beginning with another one each round."""
    start = number % len(loaded)
    return [*loaded[start:], *loaded[:start]]


def _one_round(
    model: Loaded, plan: SpeedPlan, streams: int, seed: int, clock: Callable[[], float]
) -> SpeedRound:
    policy = SamplingPolicy()
    prompts = [_plain_ids(model.renderer, plan.prompt_tokens, turn=seed + each) for each in range(streams)]
    starts = [_plain_ids(model.renderer, 8, turn=seed + each + 500) for each in range(streams)]
    endless = _sampling(policy, max_tokens=plan.reply_tokens, forbidden=_ending(model))
    with ThreadPoolExecutor(max_workers=streams) as threads:
        began = clock()
        list(
            threads.map(
                lambda ids: model.engine.generate(ids, _sampling(policy, max_tokens=1), _ignore), prompts
            )
        )
        prompt_s = clock() - began
        began, worked = clock(), time.process_time()
        ends = list(threads.map(lambda ids: model.engine.generate(ids, endless, _ignore), starts))
        reply_s, reply_processor_s = clock() - began, time.process_time() - worked
    return SpeedRound(
        streams=streams,
        prompt_tokens=streams * plan.prompt_tokens,
        prompt_s=prompt_s,
        reply_tokens=sum(end.completion_tokens for end in ends),
        reply_s=reply_s,
        reply_processor_s=reply_processor_s,
    )


def _ending(model: Loaded) -> tuple[int, ...]:
    """Return the tokens that must not come, so that a reply has its full length."""
    return tuple(sorted({*model.served.stop_ids, *model.renderer.control_tokens.values()}))


def _plain_ids(renderer: Renderer, n_tokens: int, *, turn: int = 0) -> list[int]:
    """Return so many ids of ordinary text; another `turn` begins elsewhere, so that no engine has seen its start."""
    words = _SAMPLE.split()
    shift = turn % len(words)
    text = f"{turn} " + " ".join([*words[shift:], *words[:shift]])
    ids: list[int] = []
    while len(ids) < n_tokens:
        ids += renderer.encode_texts([text])[0]
    return ids[:n_tokens]


def _sampling(policy: SamplingPolicy, *, max_tokens: int | None, forbidden: tuple[int, ...] = ()) -> Sampling:
    return Sampling(
        temperature=policy.temperature,
        top_p=policy.top_p,
        top_k=policy.top_k,
        min_p=policy.min_p,
        repeat_penalty=policy.repeat_penalty,
        frequency_penalty=0.0,
        presence_penalty=0.0,
        max_tokens=max_tokens or policy.max_tokens,
        stop=(),
        seed=20 if policy.temperature else None,
        logit_bias=tuple((token, _FORBIDDEN) for token in forbidden),
    )


def _ignore(text: str) -> bool:
    del text
    return False


# texts


def _measure_texts(loaded: Sequence[Loaded], work: MeasureWork, tell: Tell) -> list[TextFacts | None]:
    """Measure versions that share tokens together, others by themselves (they have bits per byte in common)."""
    readers = [_open_reader(each, work.threads) for each in loaded]
    anchors: list[float | None] = []
    first = loaded[0].renderer.digest
    together = [place for place, each in enumerate(loaded) if each.renderer.digest == first]
    alone = [[place] for place in range(len(loaded)) if place not in together]
    facts: dict[int, TextFacts] = {}
    n_done, n_all = 0, len(work.texts) * (1 + len(alone))
    for places in [together, *alone]:
        rows, n_left_out = mark_items(work.texts, loaded[places[0]].renderer)
        window = min(work.window, *(loaded[place].served.context_length for place in places))
        for place in places:
            anchor = find_anchor(
                readers[place], rows[:N_ANCHORS], _teller(loaded[place], readers[place]), window=window
            )
            _check_anchor(loaded[place], anchor)
            anchors.append(anchor)
        held: list[list[RowChances]] = [[] for _ in places]
        for row in rows:
            told = measure_row(row, [readers[place] for place in places], window=window, is_shared=True)
            for kept, one in zip(held, told, strict=True):
                kept.append(one)
            n_done += 1
            tell(0.4 + 0.3 * n_done / max(1, n_all), f"held-out texts, {n_done} of {n_all}")
        for place, kept, anchor in zip(places, held, anchors[-len(places) :], strict=True):
            facts[place] = TextFacts(
                rows=tuple(kept),
                renderer_digest=loaded[place].renderer.digest,
                window=window,
                anchor=anchor,
                n_left_out=n_left_out,
                n_vocabulary=len(readers[place].head),
            )
    return [facts[place] for place in range(len(loaded))]


def _open_reader(model: Loaded, threads: int) -> Reader:
    served = model.served
    encoder = TokenEncoder(served.gguf, context_length=served.context_length, n_threads=threads)
    return Reader(engine=encoder, head=read_head(served.gguf))


def _teller(model: Loaded, reader: Reader) -> Callable[[Sequence[int]], dict[int, float]]:
    printable = model.renderer.encode_texts(["a"])[0]
    letter = next(each for each in printable if each not in model.renderer.control_tokens.values())
    n_top = min(32, len(reader.head))
    return lambda ids: model.engine.next_logprobs(ids, n_top, printable_id=letter)


def _check_anchor(model: Loaded, anchor: float | None) -> None:
    if anchor is not None and anchor > MAX_ANCHOR:
        raise EngineDisagrees(
            f"{model.served.version}: chances made from the engine's states differ by {anchor:.2f} nats from its own.",
            hint="Report this with the architecture of the model: its head is not the one that is known.",
            anchor=anchor,
        )


# tasks


def _answer(loaded: Sequence[Loaded], work: MeasureWork, tell: Tell) -> list[list[TaskReply]]:
    found: list[list[TaskReply]] = [[] for _ in loaded]
    n_all = len(work.tasks) * len(loaded)
    n_done = 0
    for item in work.tasks:
        for place, model in enumerate(loaded):
            found[place].append(_reply(model, item))
            n_done += 1
            tell(0.7 + 0.3 * n_done / n_all, f"cases, {n_done} of {n_all}")
    return found


def _reply(model: Loaded, item: TaskItem) -> TaskReply:
    pieces: list[str] = []

    def take(text: str) -> bool:
        pieces.append(text)
        return False

    try:
        ids = model.renderer.render_chat(item.messages)
        end = model.engine.generate(ids, _sampling(model.served.sampling, max_tokens=item.max_tokens), take)
    except PenstockError as error:
        return TaskReply(case=item.case, text="", finish="error", error=error.message)
    return TaskReply(
        case=item.case,
        text="".join(pieces),
        finish=end.finish_reason,
        prompt_tokens=end.prompt_tokens,
        completion_tokens=end.completion_tokens,
    )


def count_texts(items: Sequence[TextItem]) -> int:
    """Return how many items have something to look at."""
    return sum(bool(item.text) or bool(item.messages) for item in items)
