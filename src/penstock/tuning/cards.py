"""The card of a model version, in Markdown: the facts of its content, and nothing that is not known."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from penstock.base.digest import short_digest

Facts = Mapping[str, Any]
_TOLD_SETTINGS = frozenset({"epochs", "max_steps", "lr", "batch_size", "accumulate", "schedule"})


def write_card(name: str, content: Facts, *, measured: Sequence[str] = (), number: int | None = None) -> str:
    """Return the card of a version with this content. `measured` are lines of figures taken later, newest first.

    `number` is the version's, where it has one by now: without it, commands name whatever `prod` is.
    """
    lines = [f"# {name}", ""]
    if content.get("description"):
        lines += [str(content["description"]), ""]
    lines += [f"- {fact}" for fact in _list_facts(content)]
    if content.get("lineage"):
        lines += ["", "## How it was made", ""] + [f"- {fact}" for fact in _list_origin(content["lineage"])]
    if measured:
        lines += ["", "## Measured", ""] + [f"- {line}" for line in measured]
    lines += ["", "## Limits", ""] + [f"- {limit}" for limit in _list_limits(content)]
    lines += [
        "",
        "## How to serve it",
        "",
        *_write_serving(name if number is None else f"{name}@{number}", content),
    ]
    return "\n".join(lines) + "\n"


def _list_facts(content: Facts) -> Iterator[str]:
    yield f"Kind: {content.get('kind')}, architecture {content.get('architecture')}"
    size, n_parameters = content.get("size_bytes"), content.get("n_parameters")
    yield (
        f"Parameters: {'unknown' if n_parameters is None else f'{n_parameters:,}'}; precision {content.get('precision')}"
        + (f"; {size:,} bytes" if size else "")
    )
    yield f"Context: {content.get('context_length')} tokens"
    if content.get("dims"):
        yield f"Dimensions: {content['dims']}"
    yield f"License: {content.get('license') or 'unknown'}"
    formats = content.get("formats")
    if formats:
        yield f"Kept as: {', '.join(formats)}"
    source = content.get("source") or {}
    if source:
        origin = f" (origin: {source['origin']})" if "origin" in source else ""
        yield f"Source: {source.get('form')} {source.get('reference')}{origin}"
    adapter = content.get("adapter")
    if adapter:
        yield (
            f"Adapter: {adapter.get('kind')}, rank {adapter.get('r')}, alpha {adapter.get('alpha')}, "
            f"on {', '.join(adapter.get('targets') or ())}"
        )
    if content.get("renderer_digest"):
        yield f"Renderer: `{short_digest(content['renderer_digest'])}`, {len(content.get('golden') or ())} golden vectors"
    if content.get("stop_ids"):
        yield f"Replies end at the token ids {', '.join(map(str, content['stop_ids']))}"
    if content.get("parity"):
        yield f"Agreement with the source: {describe_parity(content['parity'])}"


def describe_parity(parity: Facts) -> str:
    """Return the outcome of a proof in a phrase."""
    if parity.get("min_cosine") is not None:
        return f"smallest cosine {parity['min_cosine']:.6f} over {parity['n_compared']} texts"
    if parity.get("max_abs_difference") is not None:
        return f"largest difference of a score {parity['max_abs_difference']:.1e} over {parity['n_compared']} pairs"
    if parity.get("mean_kl") is None:
        return "without figures"
    return f"mean KL {parity['mean_kl']:.2e} nats over {parity['n_compared']} positions"


def _list_origin(lineage: Facts) -> Iterator[str]:
    base = lineage.get("base")
    if base:
        yield f"Base: {_pin(base)}"
    if lineage.get("method"):
        how = " from the unrounded weights that its base keeps" if lineage["method"] == "convert" else ""
        yield f"Method: {lineage['method']}{how}"
    for data in lineage.get("data") or ():
        yield f"Data: {_pin(data)}"
    for data in lineage.get("named_data") or ():
        yield f"Data that its recipe names and its own program may not have read: {_pin(data)}"
    settings = [
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in ((lineage.get("recipe") or {}).get("train") or {}).items()
        if key in _TOLD_SETTINGS and value is not None
    ]
    if settings:
        yield f"Training: {', '.join(settings)}"
    run, recipe = lineage.get("run"), lineage.get("recipe_digest")
    if run or recipe:
        told = [f"run {run}"] if run else []
        yield ", ".join(told + ([f"recipe `{short_digest(recipe)}`"] if recipe else []))
    if lineage.get("code"):
        yield f"Code: {lineage['code']}"
    environment = lineage.get("environment") or {}
    if environment.get("digest"):
        packages = environment.get("packages") or {}
        shown = [
            f"{name} {packages[name]}"
            for name in ("torch", "transformers", "peft", "trl")
            if name in packages
        ]
        yield f"Environment: `{short_digest(environment['digest'])}`" + (
            f" ({', '.join(shown)})" if shown else ""
        )
    hardware = lineage.get("hardware")
    if hardware:
        yield "Hardware: " + ", ".join(
            f"{key} {value}" for key, value in hardware.items() if value is not None
        )
    evaluation = lineage.get("evaluation")
    if evaluation:
        yield f"While training: {_tell_evaluation(evaluation)}"


def _tell_evaluation(evaluation: Facts) -> str:
    rest = dict(evaluation)
    metric, value = rest.pop("metric", None), rest.pop("value", None)
    step, n = rest.pop("step", None), rest.pop("n", None)
    told = [] if metric is None or value is None else [f"{metric} {value:.4g} on held-out rows"]
    if told and n is not None:
        told[0] += f" (n = {n:,})"
    if step is not None:
        told.append(f"best at step {step:,}")
    told += [
        f"{key} {each:.4g}" if isinstance(each, float) else f"{key} {each}"
        for key, each in rest.items()
        if each is not None
    ]
    return ", ".join(told)


def _pin(pinned: Facts) -> str:
    return f"{pinned['asset']}@{pinned['number']} (`{short_digest(str(pinned['digest']))}`)"


def _list_limits(content: Facts) -> Iterator[str]:
    if content.get("context_length"):
        yield f"Messages and reply together take at most {content['context_length']} tokens; longer ones are refused."
    if not content.get("license"):
        yield "Nobody stated a licence: find out what you may do with it before you pass it on."
    if content.get("precision") in ("q8_0", "q4_0"):
        yield f"Its weights were rounded to {content['precision']}: " + (
            "a little less exact. They are kept unrounded as well, to be trained on."
            if "safetensors" in (content.get("formats") or ())
            else "no base to train on, and a little less exact."
        )
    if content.get("adapter"):
        yield "An adapter answers only on the very base it was trained on."
    if rounding := (content.get("lineage") or {}).get("base_rounding"):
        yield (
            f"Its adapter was trained on the base rounded to four bits ({rounding}) and is laid on the unrounded one: what answers "
            "is near to what was trained, not the same. Its parity says nothing of that; figures measured on this version do."
        )
    signature = content.get("signature") or {}
    roles = signature.get("roles")
    if roles:
        yield (
            f"Its template takes the roles {', '.join(roles)}"
            + ("" if signature.get("tools") else "; it knows no tools")
            + "."
        )
    if not content.get("lineage") and not (content.get("source") or {}).get("origin"):
        yield "What it was trained on is not known here."


def _write_serving(name: str, content: Facts) -> list[str]:
    if content.get("adapter"):
        return [f"    penstock deploy model {base_label(content) or 'model:BASE'} --adapter model:{name}"]
    lines = [f"    penstock deploy model model:{name}"]
    if "safetensors" in (content.get("formats") or ()):
        lines += [f"    penstock model export {name} --to FOLDER   # for vLLM, unchanged"]
    return lines


def base_label(content: Facts) -> str | None:
    """Return `model:NAME@NUMBER` of what a version was made from."""
    base = (content.get("lineage") or {}).get("base")
    return f"{base['asset']}@{base['number']}" if base else None
