"""Switch and rollback of knowledge bases over REST."""

from penstock.spec.knowledge import Recipe, SearchRecipe
from tests.fixtures.asgi import AsgiClient
from tests.fixtures.furnished import Furnished


def test_switch_and_rollback_publish_what_gateways_go_by(owner: AsgiClient, furnished: Furnished) -> None:
    """Replies of apps are kept by what their base holds: a snapshot of before would let them outlive a switch."""
    knowledge = furnished.services.knowledge
    knowledge.build_candidate("handbook", "flat", Recipe(search=SearchRecipe(diversity=0.2)))
    before = len(furnished.published)
    body = {"track": "flat", "override_reason": "flatter"}
    assert owner.post_json("/api/v1/knowledge/handbook/switch", body).status == 200
    assert len(furnished.published) == before + 1
    reply = owner.post_json("/api/v1/knowledge/handbook/rollback", {"reason": "worse"})
    assert reply.status == 200, reply.text
    assert len(furnished.published) == before + 2
