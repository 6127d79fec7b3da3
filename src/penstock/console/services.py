"""What the pages work on. The same object that serves REST has this shape; the console does not know its class."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from penstock.access.keys import KeyService
from penstock.access.secrets import SecretService
from penstock.access.sessions import SessionSigner
from penstock.apps.service import AppService
from penstock.datasets.cleaning.service import CleaningService
from penstock.datasets.proposals.service import ProposalService
from penstock.datasets.service import DatasetService
from penstock.deploy.configuration import ConfigurationService
from penstock.deploy.deployments.service import DeploymentService
from penstock.deploy.live import LiveState
from penstock.deploy.load.service import LoadTestService
from penstock.evals.experiments import ExperimentService
from penstock.evals.gates.service import GateService
from penstock.evals.judges.service import JudgeService
from penstock.evals.service import EvaluationService
from penstock.jobs.service import JobService
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
from penstock.traces.costs.service import CostService
from penstock.traces.lists import TraceListService
from penstock.traces.measures.dashboards import DashboardService
from penstock.traces.measures.service import MeasureService
from penstock.traces.service import TraceService
from penstock.traces.sessions import SessionService
from penstock.traces.upkeep.service import UpkeepService
from penstock.traces.views import ViewService
from penstock.tuning.catalogue import ModelCatalogue
from penstock.tuning.compress.service import CompressService
from penstock.tuning.runs.service import RunService


class ConsoleServices(Protocol):
    """Read-only fields; everything behind them may be called from any thread."""

    @property
    def traces(self) -> TraceService:
        """Lists, shows and counts traces."""

    @property
    def trace_lists(self) -> TraceListService:
        """Lists of traces and spans by search."""

    @property
    def views(self) -> ViewService:
        """Saved views of these lists."""

    @property
    def measures(self) -> MeasureService:
        """Numbers over many spans."""

    @property
    def dashboards(self) -> DashboardService:
        """Panels of such numbers, built-in and people's own."""

    @property
    def alerts(self) -> AlertService:
        """Rules over such numbers, how they stand, and their history."""

    @property
    def channels(self) -> ChannelService:
        """Where alerts are told of."""

    @property
    def upkeep(self) -> UpkeepService:
        """Retention, erasure, and the size of the store."""

    def record_health(self) -> RecordHealth:
        """Return what became of everything that was sent."""

    @property
    def trace_sessions(self) -> SessionService:
        """Conversations over several traces, and who led them."""

    @property
    def costs(self) -> CostService:
        """Sums, explanations and advice on money."""

    @property
    def live(self) -> LiveState:
        """What running gateways share."""

    @property
    def keys(self) -> KeyService:
        """Makes, lists and ends keys."""

    @property
    def registry(self) -> Registry:
        """Assets, versions, aliases."""

    @property
    def jobs(self) -> JobService:
        """Durable work."""

    @property
    def knowledge(self) -> KnowledgeService:
        """Knowledge bases."""

    @property
    def sources(self) -> SourceService:
        """Where documents of knowledge bases come from."""

    @property
    def retrieval_quality(self) -> RetrievalQuality | None:
        """Measures, comparisons, explanations and reports of them; None where there are no bases."""

    @property
    def apps(self) -> AppService:
        """Declared apps."""

    @property
    def sessions(self) -> SessionSigner:
        """Issues session cookies."""

    @property
    def read_snapshot(self) -> Callable[[], Snapshot | None]:
        """What gateways were told last."""

    @property
    def publish_snapshot(self) -> Callable[[str, str], None]:
        """Tells gateways what changed, with who changed it and a note."""

    @property
    def configuration(self) -> ConfigurationService:
        """Providers, routes, limits and prices, and the history of what was published."""

    @property
    def secrets(self) -> SecretService:
        """Upstream keys, sealed."""

    @property
    def users_of_secret(self) -> Callable[[str], Sequence[str]]:
        """Names the providers that are sent a secret."""

    @property
    def take_up_alias(self) -> Callable[[AliasMove], None]:
        """Lets gateways and the engine follow an alias that was moved."""

    @property
    def datasets(self) -> DatasetService:
        """Datasets and their versions."""

    @property
    def cleaning(self) -> CleaningService:
        """Profiles and sheets of datasets."""

    @property
    def proposals(self) -> ProposalService:
        """Rows that models proposed."""

    @property
    def evaluations(self) -> EvaluationService:
        """Evaluations, their cases and figures."""

    @property
    def experiments(self) -> ExperimentService:
        """Grids of evaluations and their leaderboards."""

    @property
    def gates(self) -> GateService:
        """Verdicts over evaluations."""

    @property
    def judges(self) -> JudgeService:
        """Models that judge, what people say of the same outputs, and how the two agree."""

    @property
    def prompts(self) -> PromptService:
        """Versions of prompts, their differences, and what they make of variables."""

    @property
    def tuning(self) -> RunService | None:
        """Runs of tuning; None where nothing trains."""

    @property
    def models(self) -> ModelCatalogue | None:
        """Models as people look at them; None where there are none."""

    @property
    def compressing(self) -> CompressService | None:
        """Smaller models, and what was measured of versions."""

    @property
    def deployments(self) -> DeploymentService | None:
        """Model versions that engines of their own serve; None where nothing can be deployed."""

    @property
    def load_tests(self) -> LoadTestService | None:
        """Calls at a stated rate, and what they came to; None where none are run."""

    @property
    def find_problems(self) -> Callable[[], Mapping[str, str]]:
        """What keeps this process from being ready."""

    @property
    def find_warnings(self) -> Callable[[], Mapping[str, str]]:
        """What works, but not as it was meant to."""

    @property
    def gateway_url(self) -> str:
        """Where the playground sends its calls."""

    @property
    def internal_key(self) -> str:
        """The key for those calls; it never reaches a browser."""

    @property
    def home_option(self) -> str:
        """What a command on a page needs to name this home; empty for the default one."""

    @property
    def version(self) -> str:
        """Of Penstock."""
