"""Values that a list of traces can be narrowed to."""

import html

from penstock.base.clock import now_ns
from tests.console.conftest import make_app, sign_in
from tests.fixtures.asgi import AsgiClient
from tests.fixtures.furnished import Furnished
from tests.fixtures.spans import make_span


def test_tags_releases_and_sessions_can_be_narrowed_to(furnished: Furnished) -> None:
    start_ns = now_ns() - 60_000_000_000
    furnished.spans.append(
        [make_span(1, trace=78, start_ns=start_ns, release="r-9", tags=["beta"], session_id="s-9")]
    )
    client = sign_in(AsgiClient(make_app(furnished)), furnished.owner_key)
    facets = html.unescape(client.get("/traces/facets?range=24h").text)
    for part in ("release%3Ar-9", "tag%3Abeta"):
        assert f'href="/traces?range=24h&q={part}"' in facets
    assert "<h3>Session</h3>" in facets
