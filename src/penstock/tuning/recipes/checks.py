"""What is wrong between the keys of a recipe that are each right alone, and values out of their bounds. Pure."""

import math
import re
from collections.abc import Callable, Iterator

from penstock.base.errors import PenstockError
from penstock.base.toml_lines import KeyPath
from penstock.spec.assets import parse_asset_ref
from penstock.spec.tuning import Recipe
from penstock.tuning.trainer.run_spec import DPO_LOSSES, KTO_LOSSES

Found = tuple[KeyPath, str, str | None]
"""Key, what is wrong, how to mend it."""
ADAPTER_METHODS = frozenset({"lora", "qlora", "dora"})
PREFERENCE_METHODS = frozenset({"dpo", "kto"})
_RUN_ID = re.compile(r"(?:run|plan)_.*", re.DOTALL)
"""What folders of runs are called."""
GENERATED_METRICS = frozenset({"exact_match", "token_f1"})
MAX_STEPS = 10_000_000


def check_recipe(recipe: Recipe) -> Iterator[Found]:
    """Yield everything that is wrong. None of it needs to look at data, models or the machine."""
    for check in (_names, _numbers, _method, _data, _evaluation, _output, _scratch):
        yield from check(recipe)


def uses_adapter(recipe: Recipe) -> bool:
    """Whether low-rank adapters are trained, and not the weights themselves."""
    if recipe.method in ADAPTER_METHODS:
        return True
    if recipe.method in PREFERENCE_METHODS:
        return recipe.adapter is not None
    return recipe.method == "distill" and recipe.distill is not None and recipe.distill.student == "lora"


def _names(recipe: Recipe) -> Iterator[Found]:
    for path, text in (
        (("name",), f"model:{recipe.name}"),
        (("output", "name"), f"model:{recipe.output.name}"),
    ):
        if _RUN_ID.fullmatch(text[6:]) and path == ("name",):
            yield (
                path,
                f"{text[6:]!r} would be taken for the id of a run",
                "Take a name that does not begin with run_.",
            )
            continue
        try:
            if parse_asset_ref(text).alias is None:
                continue
        except PenstockError:
            pass
        yield path, f"{text[6:]!r} is no name", "Use lower-case letters, digits, dots and dashes."
    data = recipe.data
    wanted: list[tuple[KeyPath, str | None, str]] = [
        (("base", "model"), recipe.base.model, "model"),
        (("data", "train"), data.train, "dataset"),
        (("data", "eval"), data.eval, "dataset"),
        (("data", "template"), data.template, "prompt"),
        *(
            (("data", "guard_against", number), ref, "dataset")
            for number, ref in enumerate(data.guard_against)
        ),
    ]
    if recipe.scratch is not None:
        wanted.append((("scratch", "tokenizer"), recipe.scratch.tokenizer, "model"))
    for key, ref, kind in wanted:
        if ref is None:
            continue
        try:
            if parse_asset_ref(ref).kind == kind:
                continue
        except PenstockError:
            pass
        yield key, f"{ref!r} names no {kind}", f"Write {kind}:NAME or {kind}:NAME@VERSION."


_BOUNDS: tuple[tuple[str, str, Callable[[float], bool], str], ...] = (
    ("data", "eval_share", lambda value: 0 <= value < 1, "0 or more and less than 1"),
    ("data", "max_truncated_share", lambda value: 0 <= value <= 1, "between 0 and 1"),
    ("data", "max_duplicate_share", lambda value: 0 <= value <= 1, "between 0 and 1"),
    ("data", "max_length", lambda value: value >= 8, "8 tokens or more"),
    ("data", "max_rows", lambda value: value >= 1, "1 or more"),
    ("adapter", "r", lambda value: 1 <= value <= 1024, "between 1 and 1024"),
    ("adapter", "alpha", lambda value: value >= 1, "1 or more"),
    ("adapter", "dropout", lambda value: 0 <= value < 1, "0 or more and less than 1"),
    ("train", "lr", lambda value: 0 < value < 1, "more than 0 and less than 1"),
    ("train", "warmup_steps", lambda value: value >= 0, "0 or more"),
    ("train", "weight_decay", lambda value: value >= 0, "0 or more"),
    ("train", "clip_norm", lambda value: value > 0, "more than 0"),
    ("train", "epochs", lambda value: 0 < value <= 1000, "more than 0 and at most 1000"),
    ("train", "max_steps", lambda value: 1 <= value <= MAX_STEPS, "1 or more"),
    ("train", "batch_size", lambda value: 1 <= value <= 65536, "1 or more"),
    ("train", "accumulate", lambda value: 1 <= value <= 65536, "1 or more"),
    ("train", "checkpoint_every_steps", lambda value: value >= 1, "1 or more"),
    ("train", "keep_checkpoints", lambda value: value >= 1, "1 or more: a run that is stopped needs one"),
    ("train", "threads", lambda value: 1 <= value <= 1024, "1 or more"),
    ("preference", "beta", lambda value: value > 0, "more than 0"),
    ("preference", "sft_weight", lambda value: value >= 0, "0 or more"),
    ("preference", "desirable_weight", lambda value: value > 0, "more than 0"),
    ("preference", "undesirable_weight", lambda value: value > 0, "more than 0"),
    ("evaluation", "every_steps", lambda value: value >= 1, "1 or more"),
    ("evaluation", "max_rows", lambda value: value >= 1, "1 or more"),
    ("evaluation", "n_samples", lambda value: 0 <= value <= 64, "between 0 and 64"),
    ("evaluation", "max_new_tokens", lambda value: 1 <= value <= 4096, "between 1 and 4096"),
    ("evaluation", "patience", lambda value: value >= 1, "1 or more"),
    ("budget", "max_minutes", lambda value: value > 0, "more than 0"),
    ("budget", "max_memory_gb", lambda value: value > 0, "more than 0"),
    ("budget", "max_disk_gb", lambda value: value > 0, "more than 0"),
    ("budget", "max_cost_usd", lambda value: value >= 0, "0 or more"),
    ("budget", "usd_per_hour", lambda value: value >= 0, "0 or more"),
    ("scratch", "vocab_size", lambda value: 64 <= value <= 1_000_000, "64 or more"),
    ("scratch", "hidden_size", lambda value: 8 <= value <= 65536, "8 or more"),
    ("scratch", "n_layers", lambda value: 1 <= value <= 512, "1 or more"),
    ("scratch", "n_heads", lambda value: 1 <= value <= 512, "1 or more"),
    ("scratch", "ffn_size", lambda value: 8 <= value <= 1_000_000, "8 or more"),
    ("scratch", "context_length", lambda value: 16 <= value <= 1_048_576, "16 or more"),
    ("scratch", "rope_theta", lambda value: value > 0, "more than 0"),
    ("distill", "temperature", lambda value: 0 <= value <= 2, "between 0 and 2"),
    ("distill", "max_tokens", lambda value: value >= 1, "1 or more"),
    ("distill", "n_per_prompt", lambda value: 1 <= value <= 64, "between 1 and 64"),
)


def _numbers(recipe: Recipe) -> Iterator[Found]:
    for part, key, is_right, wanted in _BOUNDS:
        section = getattr(recipe, part)
        value = None if section is None else getattr(section, key)
        if value is not None and not (math.isfinite(value) and is_right(value)):
            yield (part, key), f"{value} is out of bounds", f"It must be {wanted}."
    if recipe.train.max_steps is not None and recipe.train.epochs != 1.0:
        yield ("train", "epochs"), "train.max_steps says already how long", "Keep one of the two."
    if not 0 <= recipe.seed < 2**31:
        yield ("seed",), f"{recipe.seed} is out of bounds", "It must be 0 or more and less than 2147483648."


def _method(recipe: Recipe) -> Iterator[Found]:
    method = recipe.method
    if method == "scratch":
        if recipe.base.model is not None:
            yield ("base", "model"), "training from scratch begins from no model", "Leave it out."
        if recipe.scratch is None:
            yield ("scratch",), "method 'scratch' needs a table [scratch]", "It says how large the model is."
    else:
        if recipe.base.model is None:
            yield ("base", "model"), f"method {method!r} begins from a model", "Name it: model:NAME@VERSION."
        if recipe.scratch is not None:
            yield ("scratch",), f"method {method!r} does not read this table", 'Use method = "scratch".'
    if recipe.distill is None and method == "distill":
        yield (
            ("distill", "teacher"),
            "method 'distill' needs a teacher",
            "Any model name that the gateway answers.",
        )
    if recipe.distill is not None and method != "distill":
        yield ("distill",), f"method {method!r} does not read this table", 'Use method = "distill".'
    if recipe.preference is not None:
        yield from _preference(recipe)
    if recipe.adapter is not None and not uses_adapter(recipe):
        yield (
            ("adapter",),
            f"method {method!r} trains all weights and reads no [adapter]",
            'Use lora, dora, dpo or kto, or distill with student = "lora".',
        )


def _preference(recipe: Recipe) -> Iterator[Found]:
    assert recipe.preference is not None
    if recipe.method not in PREFERENCE_METHODS:
        yield ("preference",), f"method {recipe.method!r} does not read this table", "Use dpo or kto."
        return
    known = DPO_LOSSES if recipe.method == "dpo" else KTO_LOSSES
    loss = recipe.preference.loss
    if loss not in known and not (recipe.method == "kto" and loss == "sigmoid"):
        yield ("preference", "loss"), f"{loss!r} is no loss of {recipe.method}", f"Known: {', '.join(known)}."
    if recipe.method == "kto" and recipe.preference.sft_weight:
        yield ("preference", "sft_weight"), "kto knows no pairs of answers", "Leave it out, or use dpo."


def _data(recipe: Recipe) -> Iterator[Found]:
    data = recipe.data
    if data.eval is None and data.eval_split is not None and data.eval_split == data.split:
        yield (
            ("data", "eval_split"),
            f"{data.split!r} would be trained on and measured on",
            "Hold out another split.",
        )
    if recipe.method in PREFERENCE_METHODS:
        if data.loss_on == "all":
            yield ("data", "loss_on"), f"{recipe.method} compares answers only", "Leave it out."
        if recipe.train.packing:
            yield ("train", "packing"), f"{recipe.method} does not pack rows", "Leave it out."
    if data.truncate == "split" and recipe.method not in {"scratch", "full", "lora", "qlora", "dora"}:
        yield ("data", "truncate"), "'split' is for text without turns", "Use error, drop or keep_end."


def _evaluation(recipe: Recipe) -> Iterator[Found]:
    metric = recipe.evaluation.metric
    is_preference = recipe.method in PREFERENCE_METHODS
    if metric == "reward_accuracy" and not is_preference:
        yield (
            ("evaluation", "metric"),
            "only dpo and kto measure rewards",
            "Use loss, token_accuracy or exact_match.",
        )
    if is_preference and metric in GENERATED_METRICS | {"token_accuracy"}:
        yield ("evaluation", "metric"), f"{recipe.method} has no {metric}", "Use loss or reward_accuracy."
    has_heldout = recipe.data.eval or recipe.data.eval_split or recipe.data.eval_share > 0
    if not has_heldout and recipe.evaluation.patience is not None:
        yield (
            ("evaluation", "patience"),
            "nothing is held out to be patient about",
            "Set data.eval_share, data.eval_split or data.eval.",
        )


def _output(recipe: Recipe) -> Iterator[Found]:
    output = recipe.output
    if output.alias == "prod":
        yield (
            ("output", "alias"),
            "'prod' moves by a gate, never by a run",
            "Use another alias, then `penstock gate run … --promote` moves prod.",
        )
    if not output.precisions:
        yield ("output", "precisions"), "at least one is needed", 'Such as ["f16"].'
    if len(set(output.precisions)) != len(output.precisions):
        yield ("output", "precisions"), "one is named twice", None
    if output.form != "merged" and not uses_adapter(recipe):
        yield ("output", "form"), f"method {recipe.method!r} makes no adapter", 'Use form = "merged".'


def _scratch(recipe: Recipe) -> Iterator[Found]:
    part = recipe.scratch
    if part is None or part.program is not None:
        return
    if part.n_heads > 0 and part.hidden_size % part.n_heads:
        yield (
            ("scratch", "n_heads"),
            f"{part.hidden_size} does not divide by {part.n_heads} heads",
            "hidden_size must be a multiple of n_heads.",
        )
    elif part.n_heads > 0 and (part.hidden_size // part.n_heads) % 2:
        yield ("scratch", "n_heads"), "rotary positions need an even size of a head", None
    if part.n_kv_heads is not None and (part.n_kv_heads < 1 or part.n_heads % part.n_kv_heads):
        yield (
            ("scratch", "n_kv_heads"),
            f"{part.n_heads} heads do not divide by {part.n_kv_heads}",
            "n_heads must be a multiple of n_kv_heads.",
        )
    if recipe.data.max_length is not None and recipe.data.max_length > part.context_length:
        yield (
            ("data", "max_length"),
            f"rows of {recipe.data.max_length} tokens do not fit {part.context_length}",
            "Raise scratch.context_length or lower data.max_length.",
        )
