"""Joins declared apps with what they may name: knowledge bases, routes, prompts."""

from collections.abc import Collection

from penstock.apps.service import AppService, Places
from penstock.knowledge.retrieval.filters import read_filter
from penstock.main.knowledge_rooms import KnowledgeRooms
from penstock.main.last_snapshot import LastSnapshot


def create_apps_service(rooms: KnowledgeRooms) -> AppService:
    """Return the service over the registry of one home."""
    snapshot = LastSnapshot(rooms.home.snapshot)

    def list_routes() -> Collection[str] | None:
        published = snapshot.read()
        return None if published is None else {route.name for route in published.routes}

    def list_variables(reference: str) -> Collection[str]:
        return list(rooms.registry.resolve(reference).content.get("variables") or ())

    return AppService(
        rooms.registry,
        places=Places(
            bases=lambda: [base.name for base in rooms.reading.list_bases()],
            routes=list_routes,
            prompt_variables=list_variables,
        ),
        read_filter=read_filter,
    )
