"""Nouns of tuning, as runs, trainers, command line, console and deployments know them. Frozen, no behaviour.

A recipe is what a person writes (one TOML file a run). Freezing it pins every reference to a digest and adds what the
recipe leaves open; the frozen run is what the trainer is started with, and what a model version names as its origin.
"""

from typing import Any, Literal

import msgspec

TuneMethod = Literal["scratch", "full", "lora", "qlora", "dora", "dpo", "kto", "distill"]
LATER_METHODS = ("reward", "grpo", "rloo", "logit_distill", "prune")
"""Names that recipes keep free: known to the format, refused by name until they are there."""
RunState = Literal["queued", "preparing", "running", "packaging", "done", "failed", "stopped"]
FINAL_RUN_STATES: frozenset[str] = frozenset({"done", "failed", "stopped"})
RunFault = Literal[
    "nan_loss",
    "out_of_memory",
    "disk_full",
    "budget",
    "killed",
    "preflight",
    "parity",
    "data_changed",
    "trainer",
    "bug",
]
"""Why a run failed, where that is known. `killed` is tried again by itself, from the last checkpoint."""
Truncation = Literal["error", "drop", "keep_end", "split"]
"""What becomes of a row over `max_length`. `split` is for text without turns only."""
LossOn = Literal["assistant", "last_turn", "all"]
Schedule = Literal["constant", "linear", "cosine"]
TunePrecision = Literal["auto", "f32", "bf16"]
FilePrecision = Literal["f32", "f16", "q8_0", "q4_0"]


class BasePart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What training begins from."""

    model: str | None = None
    """`model:NAME[@ALIAS]` of the registry; a model of a hub is pulled first, by revision. None for `scratch`."""
    merge_adapters: bool = True
    """Whether an adapter version that is named as base is merged into its own base first."""


class DataPart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What is trained on and what is held out."""

    train: str
    """`dataset:NAME[@VERSION]`, format `chat`, `instruct` or `cases` (`preference` for dpo and kto)."""
    split: str | None = None
    """Of `train`; None takes every row that is not in the evaluation's split."""
    eval: str | None = None
    """A dataset of its own to hold out; None takes `eval_split`, else `eval_share` of the training rows."""
    eval_split: str | None = None
    eval_share: float = 0.05
    guard_against: tuple[str, ...] = ()
    """Further datasets whose rows must not be in the training data."""
    max_length: int | None = None
    """Tokens of a row; None is the base's context."""
    truncate: Truncation = "error"
    max_truncated_share: float = 0.0
    """Share of rows that `drop` and `keep_end` may touch before the preflight refuses."""
    max_duplicate_share: float = 0.0
    loss_on: LossOn = "assistant"
    system: str | None = None
    """A system message put before each row that has none."""
    template: str | None = None
    """`prompt:NAME[@VERSION]` that rows of `cases` and `instruct` are written with; the same one serves in production."""
    max_rows: int | None = None


class AdapterPart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Low-rank adapters (lora, qlora, dora; dpo and kto when it is given)."""

    r: int = 16
    alpha: int = 32
    dropout: float = 0.0
    targets: tuple[str, ...] = ()
    """Names of linear layers; empty takes all of attention and feed-forward."""


class TrainPart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """How weights are moved."""

    lr: float | None = None
    """None takes what suits the method (told by `penstock tune plan`)."""
    schedule: Schedule = "linear"
    warmup_steps: int = 10
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    epochs: float = 1.0
    max_steps: int | None = None
    """Instead of epochs."""
    batch_size: int = 8
    """Rows of one forward pass."""
    accumulate: int = 1
    packing: bool = False
    precision: TunePrecision = "auto"
    """auto: bf16 where a GPU has it, else f32."""
    checkpoint_every_steps: int = 100
    keep_checkpoints: int = 2
    threads: int | None = None
    gradient_checkpointing: bool | None = None
    """None: on a GPU only."""


class PreferencePart(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """dpo and kto."""

    beta: float = 0.1
    loss: str = "sigmoid"
    sft_weight: float = 0.0
    """dpo: of the better answers' own loss, by token, beside that of the pairs. It holds them likely while the worse ones fall."""
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0


class HeldOutPart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Measuring while training, on held-out rows."""

    every_steps: int = 50
    metric: Literal["loss", "token_accuracy", "exact_match", "token_f1", "reward_accuracy"] = "loss"
    """What the best checkpoint is chosen by. `exact_match` and `token_f1` generate replies (greedy) and compare them."""
    max_rows: int = 200
    n_samples: int = 4
    """Prompts whose replies are shown as training goes on."""
    max_new_tokens: int = 64
    patience: int | None = None
    """Evaluations without a better value until training ends early; None never does."""


class BudgetPart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Where a run stops or is refused."""

    max_minutes: float | None = None
    max_memory_gb: float | None = None
    max_disk_gb: float | None = None
    max_cost_usd: float | None = None
    """Of a teacher's replies (distill)."""
    usd_per_hour: float | None = None
    """What this machine costs, for the estimate; None: unknown."""


class OutputPart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What is registered at the end."""

    name: str
    """`model:NAME`; a new version of it."""
    alias: str = "candidate"
    """Moved to the new version without a gate; `prod` is refused here: it moves by a gate."""
    precisions: tuple[FilePrecision, ...] = ("f16",)
    """Of the GGUF files: the first is the version itself, others are its children."""
    form: Literal["merged", "adapter", "both"] = "merged"
    license: str | None = None
    """None inherits the base's."""
    description: str = ""


class ScratchPart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A model from nothing."""

    program: str | None = None
    """A folder with a training program of its own that keeps the trainer's contract (Pocket's is one)."""
    architecture: Literal["llama", "qwen2", "qwen3"] = "llama"
    vocab_size: int = 4096
    hidden_size: int = 256
    n_layers: int = 4
    n_heads: int = 4
    n_kv_heads: int | None = None
    ffn_size: int = 512
    context_length: int = 1024
    rope_theta: float = 10000.0
    tie_embeddings: bool = True
    tokenizer: str | None = None
    """`model:NAME` whose tokenizer and template are taken; None trains one on the rows."""


class DistillPart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A teacher's replies to the prompts of the training rows, then supervised training on them."""

    teacher: str
    """Any model name that the gateway answers."""
    temperature: float = 0.0
    max_tokens: int = 256
    n_per_prompt: int = 1
    min_length: int = 1
    student: Literal["full", "lora"] = "full"
    """How the base (the student) is trained on the replies."""


class Recipe(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One run, as a person writes it."""

    name: str
    """Of the run: lower-case letters, digits, dots, dashes."""
    method: TuneMethod
    data: DataPart
    output: OutputPart
    seed: int = 20
    base: BasePart = BasePart()
    adapter: AdapterPart | None = None
    train: TrainPart = TrainPart()
    preference: PreferencePart | None = None
    evaluation: HeldOutPart = HeldOutPart()
    budget: BudgetPart = BudgetPart()
    scratch: ScratchPart | None = None
    distill: DistillPart | None = None
    note: str = ""


class PinnedAsset(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A version that a run was frozen to."""

    asset: str
    """`kind:name`"""
    number: int
    digest: str


class Runtime(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The environment that training runs in: its own interpreter and libraries."""

    python: str
    digest: str
    """Over the versions of everything installed in it, sorted."""
    packages: dict[str, str]
    device: str
    """`cpu` or `cuda:NAME`."""
    hardware: dict[str, Any] = {}


class FrozenRun(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the trainer is started with (`run.json` in the run's folder). Nothing in it moves any more.

    `digest` in a checkpoint must be this one's, or resuming is refused. Paths are relative to the run's folder.
    """

    format: str = "penstock-run-1"
    id: str
    recipe: Recipe
    """With every None that has a default for the method filled in."""
    base: PinnedAsset | None
    data: tuple[PinnedAsset, ...]
    renderer_digest: str | None
    program: str | None = None
    """Digest of the files of the recipe's own training program, where it has one."""
    model: str | None = "base"
    """Folder in Hugging Face layout with the base's weights."""
    train: str = "data/train"
    """Folder of `ids.npy` …, see `tuning/rows`."""
    heldout: str | None = "data/heldout"
    samples: str | None = "data/samples.json"
    """Prompts as ids with the reference's text, for samples and generated metrics."""
    stop_ids: tuple[int, ...] = ()
    pad_id: int = 0
    n_train_rows: int = 0
    n_train_tokens: int = 0
    n_steps: int = 0
    digest: str = ""
    """Over all of the above and the rows, but the id and the recipe's name, note, output and budget: two runs of one digest
    make the same weights on one machine."""


class RunEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of `events.jsonl`, appended by the trainer and flushed at once."""

    kind: Literal["begun", "step", "eval", "sample", "checkpoint", "best", "note", "fault", "ended"]
    at_ns: int
    step: int = 0
    epoch: float | None = None
    values: dict[str, float | int | None] = {}
    """step: loss, lr, grad_norm, tokens, tokens_per_s, memory_mb. eval: loss, token_accuracy, … with `n`. checkpoint: size_bytes."""
    text: str = ""
    """note and fault: what a person reads. sample: the reply."""
    detail: dict[str, Any] = {}
    """begun: {resumed_from, device}; sample: {prompt, reference}; fault: {fault: RunFault}; checkpoint, best: {path, digest};
    ended: {reason: done|stopped|early|budget, best: path, steps}."""


class RunRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A run as REST, command line and console show it."""

    id: str
    name: str
    state: RunState
    method: TuneMethod
    recipe: dict[str, Any]
    created_ns: int
    updated_ns: int
    actor: str
    job: str | None = None
    base: str | None = None
    """`model:NAME@NUMBER`"""
    frozen_digest: str | None = None
    step: int = 0
    n_steps: int | None = None
    attempts: int = 0
    """How often its trainer was started."""
    started_ns: int | None = None
    finished_ns: int | None = None
    fault: RunFault | None = None
    error: dict[str, Any] | None = None
    best: dict[str, Any] | None = None
    """{step, metric, value}"""
    result: dict[str, Any] | None = None
    """{model: label, digest, children: [labels], adapter: label|None}"""
    plan: dict[str, Any] | None = None
    preflight: dict[str, Any] | None = None


DeploymentState = Literal["starting", "proving", "ready", "failed", "draining", "stopped"]
EngineKind = Literal["embedded", "vllm", "server"]


class DeploymentSpec(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """What is to be served, as `penstock deploy` and its REST body say it."""

    name: str
    """Of the deployment; the route it answers under, unless `route` names one."""
    model: str
    """`model:NAME[@ALIAS|NUMBER|DIGEST]`"""
    engine: EngineKind = "embedded"
    route: str | None = None
    weight: int = 100
    replicas: int = 1
    context_length: int | None = None
    """None: the version's."""
    slots: int | None = None
    threads: int | None = None
    adapters: tuple[str, ...] = ()
    """`model:NAME@…` of adapters of this very base; each answers as `NAME:ADAPTER@DIGEST12`."""
    strict_adapters: bool = False
    url: str | None = None
    """server: base address of any OpenAI-compatible server; vllm: of one that runs already, None starts it."""
    served_name: str | None = None
    """Under which the server knows the model."""
    secret: str | None = None
    follow: bool = False
    """Whether a move of the model's alias swaps what is served."""


class DeploymentRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A deployment as it stands."""

    name: str
    spec: DeploymentSpec
    state: DeploymentState
    version: str | None
    """Label of the version that answers now."""
    digest: str | None
    address: str | None
    proof: dict[str, Any] | None
    """What was proven before it took traffic: golden vectors, parity of the served engine, adapters' self-test."""
    error: dict[str, Any] | None
    created_ns: int
    updated_ns: int
    swaps: int = 0
    previous: str | None = None
    """Label of the version that answered before."""
    coming: str | None = None
    """Label of the version that is being started or proven, to take over when it is."""
    is_settled: bool = True
    """Whether nothing is under way: neither a start, nor a proof, nor a process that has still to end."""
    route: str = ""
    n_processes: int = 0
    """That are meant to serve it; 0 for a server that runs elsewhere."""
    n_ready: int = 0
    """Of those, that answer now."""
    n_restarts: int = 0
    """How often those have died and come back."""
