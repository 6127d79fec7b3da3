"""The commented recipe that `penstock tune init` writes: valid as it stands, each key with what it means."""

import json

from penstock.spec.tuning import TuneMethod

_HEAD = """\
# One run of tuning. `penstock tune plan FILE` says what it will take, `penstock tune run FILE` does it.
name = "{name}"
method = "{method}"                          # scratch, full, lora, qlora, dora, dpo, kto, distill
seed = 20
note = ""
"""
_BASE = """
[base]
model = "{base}"                 # any version of the registry: model:NAME, model:NAME@3, model:NAME@ALIAS
"""
_DATA = """
[data]
train = "{data}"            # {formats}
# split = "train"                        # rows of this split only
eval_share = 0.05                        # held out by seed, whole groups; or eval_split = "dev", or eval = "dataset:OTHER"
# guard_against = ["dataset:{name}-test"]  # rows of these must not be in the training data
# max_length = 1024                      # tokens of a row; default: the base's context
truncate = "error"                       # longer rows: error, drop, keep_end
# template = "prompt:NAME@2"             # rows of cases and instruct are written with it, as production asks
# loss_on = "assistant"                  # or last_turn, all
"""
_ADAPTER = """
[adapter]
r = 16
alpha = 32
# targets = ["q_proj", "v_proj"]         # default: all of attention and feed-forward
"""
_TRAIN = """
[train]
# lr = {lr}                           # default for this method
schedule = "linear"                      # or constant, cosine
epochs = 1.0                             # or max_steps = 200
batch_size = 8
accumulate = 1                           # batches of one step
checkpoint_every_steps = 100
keep_checkpoints = 2
# threads = 2                            # of the processor; default: all
"""
_PREFERENCE = """
[preference]
beta = 0.1                               # how far the model may move from where it began: larger is nearer
# sft_weight = 1.0                       # of dpo: learn the better answers as well, lest both answers become unlikely
"""
_SCRATCH = """
[scratch]
architecture = "llama"                   # or qwen2, qwen3
vocab_size = 2048                        # a tokenizer is trained on the rows; or tokenizer = "model:NAME"
hidden_size = 128
n_layers = 2
n_heads = 4
ffn_size = 256
context_length = 256
"""
_DISTILL = """
[distill]
teacher = "gpt-4o"                       # any model that the gateway answers
max_tokens = 256
student = "lora"                         # how the base is trained on the replies: full or lora
"""
_TAIL = """
[evaluation]
every_steps = 50
metric = "{metric}"                          # the best checkpoint is chosen by it{metrics}
n_samples = 4                            # replies that are shown as training goes on

[budget]
# max_minutes = 30
# max_memory_gb = 8
# usd_per_hour = 0.40                    # of this machine, for the plan

[output]
name = "{output}"                        # a new version of model:{output}
alias = "candidate"                      # prod moves by a gate, never by a run
precisions = ["f16"]                     # the first is the version, others are its children
# form = "both"                          # adapters: merged, adapter, or both
"""
_LR = {"scratch": "1e-3", "full": "2e-5", "dpo": "1e-6", "kto": "1e-6", "distill": "2e-4"}


def write_recipe(
    method: TuneMethod, *, name: str, data: str = "dataset:NAME", base: str = "model:pocket", output: str = ""
) -> str:
    """Return the text of a recipe for a method."""
    is_preference = method in {"dpo", "kto"}
    values = {
        "name": name,
        "method": method,
        "base": base,
        "data": data if data != "dataset:NAME" else f"dataset:{name}",
        "output": output or name,
        "formats": "format preference" if is_preference else "format chat, instruct or cases",
        "lr": _LR.get(method, "2e-4"),
        "metric": "loss",
        "metrics": ": loss, reward_accuracy"
        if is_preference
        else ": loss, token_accuracy, exact_match, token_f1",
    }
    parts = [_HEAD]
    if method != "scratch":
        parts.append(_BASE)
    parts.append(_DATA)
    if method in {"lora", "qlora", "dora", "distill"}:
        parts.append(_ADAPTER)
    if is_preference:
        parts.append(_PREFERENCE)
    if method == "scratch":
        parts.append(_SCRATCH)
    if method == "distill":
        parts.append(_DISTILL)
    parts += [_TRAIN, _TAIL]
    return "".join(parts).format(**{key: _quoted(value) for key, value in values.items()})


def _quoted(value: str) -> str:
    """Return the text as it stands within a TOML string: what JSON escapes, TOML reads back."""
    return json.dumps(value, ensure_ascii=False)[1:-1]
