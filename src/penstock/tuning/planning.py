"""What a run will take, before it starts: rows, steps, memory, disk, time, money, and what forbids it.

Time is measured by running a few steps of the very run where the training environment is there; else taken from an
earlier run of the same base and method here; else estimated from the machine's arithmetic, and said to be so.
"""

import os
import shutil
import statistics
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from penstock.base.errors import PenstockError
from penstock.base.files import write_atomic
from penstock.base.ids import new_id
from penstock.spec.tuning import FrozenRun, Recipe, Runtime
from penstock.tuning.costing import (
    ModelShape,
    cheapest_fit,
    count_trained,
    estimate_disk,
    estimate_memory,
    read_shape,
    shape_of_scratch,
    total_bytes,
)
from penstock.tuning.pacing import estimate_pace, measure_arithmetic
from penstock.tuning.preflight.types import Finding, Preflight
from penstock.tuning.rows.types import RowsReport
from penstock.tuning.runs.driving import free_memory_bytes, memory_bytes
from penstock.tuning.runs.events import iter_events, read_curves
from penstock.tuning.runs.folder import RunFolder
from penstock.tuning.runs.pinning import PinnedRecipe
from penstock.tuning.runs.ports import Prices, StartFolder, Tell
from penstock.tuning.runs.preparing import (
    Preparation,
    count_run_steps,
    digest_frozen,
    freeze_rows,
    packing_width,
    with_findings,
)
from penstock.tuning.runs.queries import RunStore
from penstock.tuning.runs.types import MemoryPart, PlanFinding, RunPlan, TimeBasis

MEASURED_STEPS = 8
MEASURE_S = 180.0


@dataclass(frozen=True, kw_only=True)
class PlanningParts:
    """What planning needs of others."""

    root: Path
    preparation: Preparation
    store: RunStore
    find_runtime: Callable[[], Runtime]
    make_command: Callable[[Runtime, FrozenRun, RunFolder], list[str]]
    trainer_env: Callable[[], Mapping[str, str]]
    prices: Prices | None = None


@dataclass(frozen=True, kw_only=True)
class _Pace:
    tokens_per_s: float
    basis: TimeBasis


class Planner:
    """Plans runs. Methods block: rows are read, and measuring takes up to three minutes."""

    def __init__(self, parts: PlanningParts) -> None:
        self._parts = parts

    def plan(self, recipe: Recipe, *, measure: bool = True, tell: Tell | None = None) -> RunPlan:
        """Return the plan; raises what resolving the recipe's references raises, nothing for what it finds."""
        say = tell or (lambda _share, _text: None)
        preparation = self._parts.preparation
        pinned = preparation.pin(recipe)
        folder = RunFolder(self._parts.root, new_id("plan"))
        try:
            say(0.1, "taking the base out of the registry")
            base = preparation.open_base(pinned, folder)
            folder.data.mkdir(parents=True, exist_ok=True)
            say(0.2, "reading rows")
            preflight = preparation.look(pinned, base, folder=folder.data if measure else None)
            shape = find_shape(pinned.recipe, base)
            runtime, runtime_finding = self._find_runtime()
            pace = None
            if measure and runtime is not None and not preflight.is_refused:
                say(0.5, f"measuring {MEASURED_STEPS} steps")
                pace = self._measure(pinned, base, preflight, folder, runtime)
            pace = pace or self._earlier(pinned.recipe) or _estimate(pinned.recipe, shape)
            say(1.0, "planned")
            return self._describe(pinned, preflight, shape, pace, runtime, runtime_finding)
        finally:
            folder.remove()

    def outline(self, pinned: PinnedRecipe, base: StartFolder | None, preflight: Preflight) -> RunPlan:
        """Return the plan of a run whose rows are known, without measuring: what its record keeps."""
        shape = find_shape(pinned.recipe, base)
        runtime, finding = self._find_runtime()
        pace = self._earlier(pinned.recipe) or _estimate(pinned.recipe, shape)
        plan = self._describe(pinned, preflight, shape, pace, runtime, finding)
        return msgspec.structs.replace(plan, preflight=None)

    def judge(
        self, pinned: PinnedRecipe, base: StartFolder | None, preflight: Preflight
    ) -> Sequence[Finding]:
        """Return what memory, disk and budget have against a run whose rows are known: what its plan says, too."""
        runtime, _ = self._find_runtime()
        return self._judge(pinned.recipe, find_shape(pinned.recipe, base), preflight, runtime)

    def _judge(
        self, recipe: Recipe, shape: ModelShape | None, preflight: Preflight, runtime: Runtime | None
    ) -> list[Finding]:
        is_gpu = trains_on_gpu(runtime)
        return judge_machine(
            recipe,
            shape,
            preflight,
            memory_total=gpu_memory_bytes(runtime) if is_gpu else memory_bytes(),
            memory_free=None if is_gpu else free_memory_bytes(),
            disk_free=shutil.disk_usage(_existing(self._parts.root)).free,
            is_gpu=is_gpu,
        )

    def _describe(  # noqa: PLR0917 - one plan is made of these
        self,
        pinned: PinnedRecipe,
        preflight: Preflight,
        shape: ModelShape | None,
        pace: _Pace | None,
        runtime: Runtime | None,
        runtime_finding: PlanFinding | None,
    ) -> RunPlan:
        recipe = pinned.recipe
        report = preflight.train
        n_tokens = None if report is None else report.n_tokens
        n_steps = None if report is None else count_run_steps(recipe, report.n_sequences) or None
        is_gpu = trains_on_gpu(runtime)
        memory = _memory(recipe, shape, preflight, is_gpu=is_gpu)
        width = _length(recipe, shape, preflight)
        seconds = _seconds(recipe, preflight, n_steps=n_steps, width=width, pace=pace)
        cost = self._teacher_cost(recipe, preflight)
        judged = self._judge(recipe, shape, preflight, runtime)
        whole = with_findings(preflight, judged)
        findings = [
            PlanFinding(
                code=each.code,
                severity=each.severity,
                message=each.message,
                hint=each.hint,
                rows=each.rows,
                n_rows=each.n_rows,
                source=each.source,
            )
            for each in whole.findings
        ]
        findings += judge_budget(recipe, seconds, pace.basis if pace else None, cost)
        if runtime_finding is not None:
            findings.append(runtime_finding)
        if recipe.method == "qlora" and runtime is not None and not is_gpu:
            findings.append(
                PlanFinding(
                    code="needs-gpu",
                    severity="refuse",
                    message="qlora keeps the base in four bits, which needs a GPU.",
                    hint='Use method = "lora" here.',
                )
            )
        rate = recipe.budget.usd_per_hour
        return RunPlan(
            recipe=msgspec.to_builtins(recipe),
            n_parameters=None if shape is None else shape.n_parameters,
            n_trained=None if shape is None else count_trained(recipe, shape),
            n_rows=None if report is None else report.n_kept,
            n_heldout=None if preflight.heldout is None else preflight.heldout.n_kept,
            n_tokens=n_tokens,
            n_steps=n_steps,
            memory=memory,
            memory_bytes=total_bytes(memory) if memory else None,
            disk_bytes=estimate_disk(recipe, shape, n_tokens=n_tokens),
            tokens_per_s=None if pace is None else pace.tokens_per_s,
            seconds=seconds,
            time_basis=None if pace is None or seconds is None else pace.basis,
            cost_usd=cost,
            machine_usd=None if rate is None or seconds is None else rate * seconds / 3600,
            device=None if runtime is None else runtime.device,
            findings=sorted(findings, key=lambda finding: finding.severity != "refuse"),
            preflight=msgspec.to_builtins(preflight),
        )

    def _find_runtime(self) -> tuple[Runtime | None, PlanFinding | None]:
        try:
            return self._parts.find_runtime(), None
        except PenstockError as error:
            finding = PlanFinding(code="no-runtime", severity="warn", message=error.message, hint=error.hint)
            return None, finding

    def _measure(
        self,
        pinned: PinnedRecipe,
        base: StartFolder | None,
        preflight: Preflight,
        folder: RunFolder,
        runtime: Runtime,
    ) -> _Pace | None:
        """Run a few steps of this very run and return their pace; None where they could not be run."""
        frozen = freeze_rows(folder.path.name, pinned, base, preflight, folder)
        if frozen.recipe.scratch is not None and frozen.recipe.scratch.program is not None:
            return None
        short = shorten(frozen)
        short = msgspec.structs.replace(short, digest=digest_frozen(short, folder))
        write_atomic(folder.spec, msgspec.json.encode(short))
        command = self._parts.make_command(runtime, short, folder)
        with suppress(OSError, subprocess.TimeoutExpired), folder.log.open("ab") as log:
            subprocess.run(
                command,
                cwd=folder.path,
                env=dict(self._parts.trainer_env()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                timeout=MEASURE_S,
                check=False,
            )
        paces = [
            float(value)
            for event in iter_events(folder.events)
            if event.kind == "step" and (value := event.values.get("tokens_per_s"))
        ]
        if not paces:
            return None
        return _Pace(tokens_per_s=statistics.median(paces[1:] or paces), basis="measured")

    def _earlier(self, recipe: Recipe) -> _Pace | None:
        """Return the pace of the newest run of this base, method and batch on this machine."""
        for run in self._parts.store.page(state="done", method=recipe.method, limit=20).rows:
            known = msgspec.convert(run.recipe, Recipe)
            is_alike = (known.base, known.adapter, known.scratch) == (
                recipe.base,
                recipe.adapter,
                recipe.scratch,
            )
            if not is_alike or known.train.batch_size != recipe.train.batch_size:
                continue
            for curve in read_curves(RunFolder(self._parts.root, run.id).events):
                if curve.name == "step.tokens_per_s" and curve.points:
                    values = [point.value for point in curve.points]
                    return _Pace(tokens_per_s=statistics.median(values), basis="earlier")
        return None

    def _teacher_cost(self, recipe: Recipe, preflight: Preflight) -> float | None:
        part, prices = recipe.distill, self._parts.prices
        if part is None or prices is None or preflight.train is None:
            return None
        n_replies = preflight.train.n_kept * part.n_per_prompt
        tokens_in = preflight.train.n_tokens * part.n_per_prompt
        return prices.cost_usd(part.teacher, tokens_in, n_replies * part.max_tokens)


def trains_on_gpu(runtime: Runtime | None) -> bool:
    """Whether the training environment has a GPU."""
    return runtime is not None and runtime.device.startswith("cuda")


def gpu_memory_bytes(runtime: Runtime | None) -> int | None:
    """Return the memory of the GPU that is trained on; None where the environment does not tell."""
    told = None if runtime is None else runtime.hardware.get("gpu_memory_gb")
    return int(told * 1e9) if isinstance(told, int | float) and told > 0 else None


def find_shape(recipe: Recipe, base: StartFolder | None) -> ModelShape | None:
    """Return the shape of what is trained; None where only a program of its own knows."""
    if base is not None and (base.folder / "config.json").is_file():
        with suppress(OSError, ValueError, KeyError):
            return read_shape(base.folder)
    if recipe.scratch is not None and recipe.scratch.program is None:
        return shape_of_scratch(recipe.scratch)
    return None


def shorten(frozen: FrozenRun) -> FrozenRun:
    """Return the run cut down to what measures its pace: few steps, no checkpoints, nothing generated."""
    recipe = frozen.recipe
    never = 1_000_000
    recipe = msgspec.structs.replace(
        recipe,
        train=msgspec.structs.replace(
            recipe.train, max_steps=MEASURED_STEPS, checkpoint_every_steps=never, warmup_steps=0
        ),
        evaluation=msgspec.structs.replace(
            recipe.evaluation, every_steps=never, n_samples=0, metric="loss", max_rows=1, patience=None
        ),
    )
    return msgspec.structs.replace(
        frozen, recipe=recipe, n_steps=MEASURED_STEPS, heldout=None, samples=None, digest=""
    )


def judge_machine(
    recipe: Recipe,
    shape: ModelShape | None,
    preflight: Preflight,
    *,
    memory_total: int | None,
    memory_free: int | None,
    disk_free: int | None,
    is_gpu: bool = False,
) -> list[Finding]:
    """Return findings about memory and disk: refused over the budget or over what the machine has at all."""
    found: list[Finding] = []
    length = _length(recipe, shape, preflight)
    if shape is None or length is None:
        return found
    needed = total_bytes(estimate_memory(recipe, shape, length=length, is_gpu=is_gpu))
    allowed = _bytes(recipe.budget.max_memory_gb)
    limits = [("the budget allows", allowed), ("the GPU has" if is_gpu else "this machine has", memory_total)]
    for words, limit in limits:
        if limit is not None and needed > limit:
            fit = cheapest_fit(
                recipe,
                shape,
                length=length,
                limit_bytes=limit,
                is_gpu=is_gpu,
                longest=_longest(preflight),
            )
            found.append(
                Finding(
                    code="too-little-memory",
                    severity="refuse",
                    message=f"Training needs about {_size(needed)} of memory; {words} {_size(limit)}.",
                    hint=f"The cheapest change that fits: {fit}."
                    if fit
                    else "No change of the recipe would fit.",
                )
            )
            break
    else:
        if not is_gpu and memory_free is not None and needed > memory_free:
            found.append(
                Finding(
                    code="too-little-memory",
                    severity="warn",
                    message=f"Training needs about {_size(needed)}; {_size(memory_free)} are free now.",
                    hint="Other programs hold the rest.",
                )
            )
    disk = estimate_disk(recipe, shape, n_tokens=preflight.train.n_tokens if preflight.train else None) or 0
    disk_limits = [("the budget allows", _bytes(recipe.budget.max_disk_gb)), ("free are", disk_free)]
    for words, limit in disk_limits:
        if limit is not None and disk > limit:
            found.append(
                Finding(
                    code="too-little-disk",
                    severity="refuse",
                    message=f"The run needs about {_size(disk)} of disk; {words} {_size(limit)}.",
                    hint="Lower train.keep_checkpoints, register fewer output.precisions, or free some space.",
                )
            )
            break
    return found


def judge_budget(
    recipe: Recipe, seconds: float | None, basis: TimeBasis | None, cost_usd: float | None
) -> list[PlanFinding]:
    """Return findings about time and money. A time that is only estimated warns, a measured one refuses."""
    found = []
    minutes = recipe.budget.max_minutes
    if minutes is not None and seconds is not None and seconds > minutes * 60:
        share = minutes * 60 / seconds
        found.append(
            PlanFinding(
                code="over-budget",
                severity="refuse" if basis == "measured" else "warn",
                message=f"Training takes about {seconds / 60:.0f} min ({basis}); the budget is {minutes:g} min.",
                hint=f"train.epochs = {recipe.train.epochs * share:.2g} would fit, or raise budget.max_minutes."
                if recipe.train.max_steps is None
                else f"train.max_steps = {int(recipe.train.max_steps * share)} would fit.",
            )
        )
    limit = recipe.budget.max_cost_usd
    if limit is not None and cost_usd is not None and cost_usd > limit:
        share = limit / cost_usd
        found.append(
            PlanFinding(
                code="over-budget",
                severity="refuse",
                message=f"The teacher's replies cost up to {cost_usd:.2f} USD; the budget is {limit:.2f} USD.",
                hint=f"Ask about {share:.0%} of the rows (data.max_rows), or lower distill.max_tokens.",
            )
        )
    return found


def _estimate(recipe: Recipe, shape: ModelShape | None) -> _Pace | None:
    if shape is None:
        return None
    flops, cores = measure_arithmetic(), len(os.sched_getaffinity(0))
    pace = estimate_pace(recipe, shape, core_flops=flops, n_cores=cores)
    return _Pace(tokens_per_s=pace, basis="estimated")


def _memory(
    recipe: Recipe, shape: ModelShape | None, preflight: Preflight, *, is_gpu: bool
) -> list[MemoryPart]:
    length = _length(recipe, shape, preflight)
    if shape is None or length is None:
        return []
    return estimate_memory(recipe, shape, length=length, is_gpu=is_gpu)


def _length(recipe: Recipe, shape: ModelShape | None, preflight: Preflight) -> int | None:
    """Return the tokens of the longest line that is trained on."""
    limits = [recipe.data.max_length, None if shape is None else shape.context_length or None]
    bound = min((limit for limit in limits if limit), default=None)
    largest = _longest(preflight)
    if recipe.train.packing and bound is not None:
        return bound if recipe.data.max_length is not None else packing_width(bound, largest)
    if largest is not None:
        return largest if bound is None else min(largest, bound)
    return bound


def _longest(preflight: Preflight) -> int | None:
    report = preflight.train
    return None if report is None or report.lengths is None else report.lengths.largest


def _seconds(
    recipe: Recipe,
    preflight: Preflight,
    *,
    n_steps: int | None,
    width: int | None,
    pace: _Pace | None,
) -> float | None:
    report = preflight.train
    if (
        pace is None
        or report is None
        or not report.n_tokens
        or not report.n_sequences
        or pace.tokens_per_s <= 0
    ):
        return None
    train = recipe.train
    if train.max_steps is not None and n_steps is not None:
        total = n_steps * tokens_of_step(recipe, report, width=width)
    else:
        total = report.n_tokens * train.epochs
    return total / pace.tokens_per_s


def tokens_of_step(recipe: Recipe, report: RowsReport, *, width: int | None) -> float:
    """Return what one step reads: whole lines where rows are packed, and never more than there is in all."""
    n_lines = recipe.train.batch_size * recipe.train.accumulate
    a_line = report.n_tokens / report.n_sequences
    if recipe.train.packing and width is not None:
        a_line = max(a_line, width)
    return min(n_lines * a_line, report.n_tokens)


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def _bytes(gigabytes: float | None) -> int | None:
    return None if gigabytes is None else int(gigabytes * 1e9)


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e7 else f"{n_bytes / 1e6:.1f} MB"
