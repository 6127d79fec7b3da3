"""What the control plane's handlers and pages work on; built in one place, handed to all of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from penstock.access.keys import KeyService
from penstock.access.secrets import SecretService
from penstock.access.sessions import SessionSigner
from penstock.apps.service import AppService
from penstock.datasets.cleaning.service import CleaningService
from penstock.datasets.proposals.service import ProposalService
from penstock.datasets.service import DatasetService
from penstock.deploy.configuration import ConfigurationService
from penstock.deploy.deployments.service import DeploymentService
from penstock.deploy.kept_replies import ResponseCacheService
from penstock.deploy.live import LiveState, NothingLive
from penstock.deploy.load.service import LoadTestService
from penstock.evals.experiments import ExperimentService
from penstock.evals.gates.service import GateService
from penstock.evals.judges.service import JudgeService
from penstock.evals.service import EvaluationService
from penstock.jobs.service import JobService
from penstock.knowledge.erasure.service import KnowledgeErasures
from penstock.knowledge.quality.service import RetrievalQuality
from penstock.knowledge.service import KnowledgeService
from penstock.knowledge.sources.service import SourceService
from penstock.monitors.channels import ChannelService
from penstock.monitors.service import AlertService
from penstock.prompts.service import PromptService
from penstock.registry.service import Registry
from penstock.registry.types import AliasMove
from penstock.spec.snapshot import Snapshot
from penstock.telemetry.counters import RecordHealth
from penstock.telemetry.exposition import MetricFamily
from penstock.traces.costs.service import CostService
from penstock.traces.exports import ExportService
from penstock.traces.ingest import IngestService
from penstock.traces.lists import TraceListService
from penstock.traces.measures.dashboards import DashboardService
from penstock.traces.measures.service import MeasureService
from penstock.traces.scores import ScoreService
from penstock.traces.service import TraceService
from penstock.traces.sessions import SessionService
from penstock.traces.upkeep.service import UpkeepService
from penstock.traces.views import ViewService
from penstock.tuning.catalogue import ModelCatalogue
from penstock.tuning.compress.service import CompressService
from penstock.tuning.runs.service import RunService


@dataclass(frozen=True, kw_only=True)
class ControlServices:
    """Everything behind REST, OTLP and the console. All of it may be called from any thread."""

    traces: TraceService
    trace_lists: TraceListService
    """Lists of traces and spans by search, counts, completion."""
    trace_exports: ExportService
    """Whole spans that a search finds, as files."""
    views: ViewService
    """Saved views of these lists."""
    measures: MeasureService
    """Numbers over many spans."""
    dashboards: DashboardService
    alerts: AlertService
    """Rules over these numbers, how they stand, and their history."""
    channels: ChannelService
    """Where alerts are told of, and the messages under way."""
    scores: ScoreService
    trace_sessions: SessionService
    """Conversations over several traces, and who led them; `sessions` below are those of the console."""
    upkeep: UpkeepService
    """What goes by age, and erasing, handing out and copying the record."""
    costs: CostService
    keys: KeyService
    registry: Registry
    jobs: JobService
    evaluations: EvaluationService
    experiments: ExperimentService
    gates: GateService
    """Verdicts over evaluations."""
    judges: JudgeService
    """Models that judge, what people say of the same outputs, and how the two agree."""
    knowledge: KnowledgeService
    sources: SourceService
    """Where documents of knowledge bases come from, and what is there."""
    knowledge_erasures: KnowledgeErasures
    """Documents that are taken out of knowledge bases for good."""
    apps: AppService
    """Declared apps."""
    datasets: DatasetService
    cleaning: CleaningService
    """Duplicates, contamination, personal data, profiles and sheets of datasets."""
    proposals: ProposalService
    """Rows that models proposed, and the review of them."""
    prompts: PromptService
    sessions: SessionSigner
    """Signs console sessions; its secret lives in HOME/run."""
    read_snapshot: Callable[[], Snapshot | None]
    """What gateways were told last; None before the first time."""
    publish_snapshot: Callable[[str, str], None]
    """Tells gateways what changed: called with actor and note after keys or secrets changed."""
    configuration: ConfigurationService
    """Providers, routes, limits and prices: list, get, put, delete, validate, diff, history, rollback. It publishes
    by itself."""
    secrets: SecretService
    """Upstream keys, sealed."""
    cache: ResponseCacheService
    """Replies that are given again: how they are used, and forgetting them."""
    users_of_secret: Callable[[str], Sequence[str]]
    """Names the providers that are sent a secret."""
    take_up_alias: Callable[[AliasMove], None]
    """Lets gateways and the engine follow an alias that was moved."""
    ingest: IngestService
    """Takes spans and log events from outside, and knows what became of everything that was sent."""
    find_problems: Callable[[], Mapping[str, str]]
    """What keeps this process from being ready, by part; empty when it is."""
    read_metrics: Callable[[], Sequence[MetricFamily]]
    """Numbers for Prometheus."""
    gateway_url: str
    """Where the playground sends its calls, such as `http://127.0.0.1:4600`."""
    internal_key: str
    """The key that this installation's own processes use among themselves."""
    find_warnings: Callable[[], Mapping[str, str]] = dict
    """What a person should look at though this process is ready, such as settings that were not taken up."""
    deployments: DeploymentService | None = None
    """Model versions that engines of their own serve; None where nothing can be deployed."""
    live: LiveState = field(default_factory=NothingLive)
    """What running gateways share: health of targets, use of limits, presence of keys."""
    retrieval_quality: RetrievalQuality | None = None
    """Measures, comparisons, explanations and reports of knowledge bases; None where there are no bases."""
    load_tests: LoadTestService | None = None
    """Calls at a stated rate, and what they came to; None in a process that runs none."""
    compressing: CompressService | None = None
    """Work on models: quantise, shrink, measure, verify, compare, distil."""
    home_option: str = ""
    """What a command needs to name this home, such as ` --home /srv/ai`; empty for the default one."""
    models: ModelCatalogue | None = None
    """Models as people look at them: lists, cards, lineage."""
    tuning: RunService | None = None
    """Runs of tuning; None where nothing trains."""
    version: str = "0.1.0"

    def record_health(self) -> RecordHealth:
        """Return what became of everything that was sent: taken, left out, cut, masked, dropped, sent on."""
        return self.ingest.record_health()
