"""`penstock cache`: what a person sees of kept replies, and how they are forgotten."""

from penstock.spec.home import Home
from penstock.store.response_cache import KeptReply, ResponseStore
from tests.cli.commands import call

REPLY = KeptReply(project="p", route="r", stored_ns=5, expires_ns=2**62, content_type=b"", body=b"{}")


def test_stats_show_routes_and_a_purge_forgets(home: Home) -> None:
    assert "0 replies" in call("cache", "stats", home=home.root).out
    store = ResponseStore(home.cache)
    store.put(b"k" * 32, REPLY)
    store.add_counts(
        {"support\x1fhit": 3, "support\x1fmiss": 1, "support\x1fchecked": 20, "support\x1fdiffered": 1}
    )
    store.close()
    shown = call("cache", "stats", home=home.root)
    assert "75.0%" in shown.out
    assert "5.0% (0.9% to 23.6%, 20 checked)" in shown.out
    told = call("cache", "stats", "--json", home=home.root).json
    assert told["routes"][0]["false_hits"]["differed"] == 1
    assert call("cache", "purge", "--route", "r", "--json", home=home.root).json == {"purged": "route:r"}
    store = ResponseStore(home.cache)
    assert store.get(b"k" * 32, now_ns=9) is None
    store.close()


def test_a_purge_says_what_it_is_for(home: Home) -> None:
    for arguments in ([], ["--all", "--route", "r"]):
        refused = call("cache", "purge", *arguments, home=home.root)
        assert (refused.code, "--route, --project and --all" in refused.err) == (2, True)
