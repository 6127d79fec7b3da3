"""The apps process: runs declared apps; their model calls go back through the gateway."""

from penstock.apps.app import create_apps
from penstock.apps.types import AppDeclaration
from penstock.base.errors import InvalidInput, NotFound
from penstock.base.logs import configure_logs
from penstock.knowledge.retrieval.citations import check_citations
from penstock.knowledge.retrieval.filters import read_filter
from penstock.main.app_evidence import make_packing
from penstock.main.instance import find_addresses
from penstock.main.knowledge_rooms import KnowledgeRooms
from penstock.main.last_snapshot import LastSnapshot
from penstock.main.prompt_rooms import EmbeddedTokenizers, SnapshotPlaces, create_prompts, gateway_embed
from penstock.main.serving import serve
from penstock.main.stopping import DRAIN_S
from penstock.prompts.serving import PromptServer
from penstock.spec.home import Home
from penstock.telemetry.edge import SnapshotEdge
from penstock.telemetry.recorder import SpanRecorder
from penstock.telemetry.spool import open_writer


def run_apps(home: Home, *, port: int) -> None:
    """Serve until SIGTERM."""
    configure_logs(process="apps")
    installation = KnowledgeRooms(home, keeps_running=True)
    recorder = SpanRecorder(open_writer(home.spool, "apps"), SnapshotEdge(home.snapshot).admit)

    def list_apps() -> list[AppDeclaration]:
        return installation.declared_apps()

    def find_version(name: str) -> str | None:
        try:
            return installation.registry.resolve(f"app:{name}").stamp
        except (NotFound, InvalidInput):
            return None

    snapshot = LastSnapshot(home.snapshot)
    prompts = create_prompts(
        home,
        installation.registry,
        installation.blobs,
        embed=gateway_embed(
            lambda: find_addresses(home).gateway_url, installation.internal_key, snapshot.read
        ),
        read_snapshot=snapshot.read,
    )
    app = create_apps(
        apps=list_apps,
        retriever=installation.knowledge,
        recorder=recorder,
        gateway_url=f"{find_addresses(home).gateway_url}/v1",
        internal_key=installation.internal_key,
        find_version=find_version,
        find_app=installation.find_app,
        shelf=installation.reading,
        read_filter=read_filter,
        pack=make_packing(EmbeddedTokenizers(installation.registry, installation.blobs, snapshot.read)),
        check_citations=check_citations,
        prompts=PromptServer(prompts, routes=SnapshotPlaces(snapshot.read).list_routes),
    )
    try:
        serve(app, host="127.0.0.1", port=port, drain_s=DRAIN_S)
    finally:
        recorder.close()
        installation.close()
