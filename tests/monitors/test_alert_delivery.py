"""Messages reach real receivers in their own form, are tried again, in order, and never where they must not go."""

import contextlib
import hashlib
import hmac
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from penstock.monitors.channels import check_channel
from penstock.monitors.deadline import Deadline
from penstock.monitors.delivery import MAX_ATTEMPTS
from penstock.monitors.errors import (
    ChannelInUse,
    ChannelInvalid,
    DeliveryFailed,
    UnknownChannel,
    UnknownMessage,
)
from penstock.monitors.transports import open_checked, post
from penstock.monitors.types import ChannelContent, Threshold
from tests.monitors.bench_of_alerts import Bench, S
from tests.monitors.receiver import Mailbox, Received, http_receiver, mail_receiver


@pytest.fixture
def received() -> Iterator[Received]:
    with http_receiver() as found:
        yield found


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with mail_receiver() as found:
        yield found


@pytest.fixture
def bench(sqlite_engine: Engine) -> Bench:
    return Bench(sqlite_engine, secrets={"PENSTOCK_ALERT_KEY": "top"})


def fire(bench: Bench, *channels: str, **fields: Any) -> None:
    """Let a rule that notifies these channels fire."""
    bench.rule(notify=channels, **fields)
    bench.step(0, error_share=0.5)


def test_a_webhook_gets_signed_json(bench: Bench, received: Received) -> None:
    bench.hook(received.url, signing_env="PENSTOCK_ALERT_KEY")
    fire(bench, "hook")
    assert bench.delivery.run_once() == 1
    headers, body = received.headers[0], received.bodies[0]
    message = json.loads(body)
    assert (message["kind"], message["state"], message["value"], message["unit"]) == (
        "transition",
        "alert",
        0.5,
        "share",
    )
    assert headers["penstock-message-id"] == message["id"]
    stamp, _, digest = headers["penstock-signature"].partition(",v1=")
    text = stamp.removeprefix("t=").encode() + b"." + body
    assert digest == hmac.new(b"top", text, hashlib.sha256).hexdigest()
    assert bench.messages() == [("transition", "alert", "sent")]
    assert bench.delivery.run_once() == 0


def test_slack_gets_text_and_blocks_with_its_three_characters_escaped(
    bench: Bench, received: Received
) -> None:
    bench.hook(received.url, kind="slack")
    fire(bench, "hook", title="<!channel> & co", text="a < b")
    bench.delivery.run_once()
    message = json.loads(received.bodies[0])
    assert message["text"] == "🔴 alert: &lt;!channel&gt; &amp; co"
    shown = message["blocks"][0]["text"]["text"]
    assert "Error share 0.5 is above 0.1" in shown and "a &lt; b" in shown
    assert "<http://console.test/alerts/errors|rule>" in message["blocks"][1]["elements"][0]["text"]


def test_mail_is_handed_over_with_an_id_of_its_own(bench: Bench, mailbox: Mailbox) -> None:
    content = ChannelContent(
        kind="email",
        host="127.0.0.1",
        port=mailbox.port,
        security="none",
        allow_private=True,
        sender="penstock@example.com",
        recipients=("ann@example.com", "bob@example.com"),
    )
    bench.channels.put("mail", content, actor="ann")
    fire(bench, "mail", title="Zu viele Fehler: ü\r\nBcc: x@example.com")
    assert bench.delivery.run_once() == 1
    assert mailbox.recipients == ["ann@example.com", "bob@example.com"]
    head, _, body = mailbox.mails[0].partition("\r\n\r\n")
    assert "Message-ID: <msg_" in head and "@example.com>" in head
    assert not any(line.startswith("Bcc") for line in head.splitlines())
    assert "Error share 0.5 is above 0.1" in body


def mail_to(bench: Bench, mailbox: Mailbox, *names: str) -> None:
    content = ChannelContent(
        kind="email",
        host="127.0.0.1",
        port=mailbox.port,
        security="none",
        allow_private=True,
        sender="penstock@example.com",
        recipients=tuple(f"{name}@example.com" for name in names),
    )
    bench.channels.put("mail", content, actor="ann")


def test_a_recipient_whom_the_server_does_not_know_costs_the_others_no_second_mail(
    bench: Bench, mailbox: Mailbox
) -> None:
    mailbox.refuses = frozenset({"bob@example.com"})
    mail_to(bench, mailbox, "ann", "bob")
    fire(bench, "mail")
    assert bench.delivery.run_once() == 1
    bench.step(error_share=0.0)
    assert bench.delivery.run_once() == 1, "nothing waits behind it"
    assert mailbox.recipients == ["ann@example.com"] * 2
    newest = bench.channels.messages()[0]
    assert (newest.state, newest.attempts) == ("sent", 1)
    assert "bob@example.com (550 unknown here)" in (newest.error or "")


def test_mail_that_a_recipient_may_get_later_is_tried_again_for_that_one_alone(
    bench: Bench, mailbox: Mailbox
) -> None:
    mailbox.postpones = frozenset({"bob@example.com"})
    mail_to(bench, mailbox, "ann", "bob", "eve")
    fire(bench, "mail")
    assert bench.delivery.run_once() == 0
    assert "bob@example.com (450 come again)" in (bench.channels.messages()[0].error or "")
    bench.now += 5 * S
    assert bench.delivery.run_once() == 0
    mailbox.postpones = frozenset()
    bench.now += 15 * S
    assert bench.delivery.run_once() == 1
    assert sorted(mailbox.recipients) == ["ann@example.com", "bob@example.com", "eve@example.com"]


def test_mail_that_nobody_may_have_is_tried_again_as_a_whole(bench: Bench, mailbox: Mailbox) -> None:
    mailbox.refuses = frozenset({"ann@example.com", "bob@example.com"})
    mail_to(bench, mailbox, "ann", "bob")
    fire(bench, "mail")
    assert bench.delivery.run_once() == 0
    mailbox.refuses = frozenset()
    bench.now += 5 * S
    assert bench.delivery.run_once() == 1
    assert mailbox.recipients == ["ann@example.com", "bob@example.com"]


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", b""]
)
def test_a_server_that_drips_its_answer_holds_nobody_up(answer: bytes) -> None:
    stop = threading.Event()

    def drip(server: socket.socket) -> None:
        link, _ = server.accept()
        with link, contextlib.suppress(OSError):
            link.sendall(answer)
            while not stop.wait(0.05):
                link.sendall(b"X" if answer.endswith(b"\r\n\r\n") else b"X-A: 1\r\n" if answer else b" ")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,), daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        asked = threading.Thread(target=lambda: _try_post(url), daemon=True)
        asked.start()
        asked.join(120)  # it would drip for ever
        assert not asked.is_alive()
        stop.set()
        thread.join(5)


def _try_post(url: str) -> None:
    with contextlib.suppress(DeliveryFailed):
        post(url, b"{}", {}, allow_private=True, timeout_s=0.3)


def test_a_secret_address_that_cannot_be_used_stays_secret() -> None:
    for url in (
        "https://hooks.example.com/services/S3CRET x",
        "https://[S3CRET/",
        "https://a.example:S3CRET/",
    ):
        with pytest.raises(DeliveryFailed) as refused:
            post(url, b"{}", {}, allow_private=True)
        assert "S3CRET" not in f"{refused.value.message} {refused.value.hint}"


def test_a_channel_that_was_mended_sends_what_waits_at_once(bench: Bench, received: Received) -> None:
    bench.hook("http://127.0.0.1:9/")
    fire(bench, "hook")
    for _ in range(5):
        bench.delivery.run_once()
        bench.now += 300 * S
    bench.delivery.run_once()
    bench.hook(received.url)
    assert bench.delivery.run_once() == 1


def test_a_test_message_does_not_wait_behind_an_earlier_one(bench: Bench, received: Received) -> None:
    received.statuses = [500, 200]
    bench.hook(received.url)
    bench.channels.test("hook", actor="ann")
    assert bench.delivery.run_once() == 0
    bench.now += S
    bench.channels.test("hook", actor="ann")
    assert bench.delivery.run_once() == 1
    assert [one.state for one in bench.channels.messages()] == ["sent", "dropped"]


def test_mail_without_the_tls_that_was_asked_for_is_not_sent(bench: Bench, mailbox: Mailbox) -> None:
    content = ChannelContent(
        kind="email",
        host="127.0.0.1",
        port=mailbox.port,
        allow_private=True,
        user="u",
        password_env="PENSTOCK_ALERT_KEY",
        sender="penstock@example.com",
        recipients=("ann@example.com",),
    )
    bench.channels.put("mail", content, actor="ann")
    fire(bench, "mail")
    assert bench.delivery.run_once() == 0
    assert "STARTTLS" in (bench.channels.messages()[0].error or "")
    assert mailbox.mails == []


def test_a_receiver_that_fails_is_tried_again_later_and_later(bench: Bench, received: Received) -> None:
    received.statuses = [500, 503, 200]
    bench.hook(received.url)
    fire(bench, "hook")
    assert bench.delivery.run_once() == 0
    assert "answered 500: ok" in (bench.channels.messages()[0].error or "")
    bench.now += 4 * S
    assert bench.delivery.run_once() == 0 and len(received.bodies) == 1, "too early"
    bench.now += S
    assert bench.delivery.run_once() == 0 and len(received.bodies) == 2
    bench.now += 15 * S
    assert bench.delivery.run_once() == 1
    ids = {headers["penstock-message-id"] for headers in received.headers}
    assert len(ids) == 1, "the same message each time"


def test_a_receiver_that_asks_for_time_gets_it(bench: Bench, received: Received) -> None:
    received.statuses, received.answer_headers = [429, 200], {"retry-after": "120"}
    bench.hook(received.url)
    fire(bench, "hook")
    bench.delivery.run_once()
    bench.now += 119 * S
    assert bench.delivery.run_once() == 0
    bench.now += S
    assert bench.delivery.run_once() == 1


def test_what_nobody_takes_is_given_up_kept_and_can_be_tried_again(bench: Bench, received: Received) -> None:
    received.statuses = [500]
    bench.hook(received.url)
    fire(bench, "hook")
    for _ in range(MAX_ATTEMPTS + 3):
        bench.delivery.run_once()
        bench.now += 3600 * S
    assert len(received.bodies) == MAX_ATTEMPTS
    dead = bench.channels.messages(state="dead")
    assert len(dead) == 1 and bench.channels.count_messages() == {"dead": 1}
    received.statuses = [200]
    bench.channels.retry(dead[0].id)
    assert bench.delivery.run_once() == 1
    with pytest.raises(UnknownMessage):
        bench.channels.retry("msg_0")


def test_the_end_of_trouble_does_not_overtake_its_beginning(control_engine: Engine) -> None:
    with http_receiver() as received:
        bench = Bench(control_engine)
        received.statuses = [500, 200]
        bench.hook(received.url)
        fire(bench, "hook")
        bench.step(error_share=0.0)
        assert bench.delivery.run_once() == 0, "the first failed, the second waits for it"
        bench.now += 60 * S
        assert bench.delivery.run_once() == 1
        assert bench.delivery.run_once() == 1
        assert [json.loads(body)["state"] for body in received.bodies] == ["alert", "alert", "ok"]


def test_one_broken_channel_does_not_hold_up_the_others(bench: Bench, received: Received) -> None:
    bench.hook("http://127.0.0.1:9/", name="away")
    bench.hook(received.url)
    fire(bench, "away", "hook")
    assert bench.delivery.run_once() == 1
    assert {one.channel: one.state for one in bench.channels.messages()} == {
        "away": "pending",
        "hook": "sent",
    }


def test_a_secret_that_is_missing_is_told_in_the_outbox(bench: Bench, received: Received) -> None:
    bench.hook(received.url, signing_env="PENSTOCK_ALERT_GONE")
    fire(bench, "hook")
    bench.delivery.run_once()
    assert "There is no PENSTOCK_ALERT_GONE" in (bench.channels.messages()[0].error or "")
    assert received.bodies == [], "nothing goes out unsigned"


def test_redirects_are_not_followed(bench: Bench, received: Received) -> None:
    received.statuses, received.answer_headers = [307], {"location": "http://127.0.0.1:9/"}
    with pytest.raises(DeliveryFailed, match="answered 307"):
        post(received.url, b"{}", {}, allow_private=True)


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "metadata.google.internal", "2852039166", "::ffff:169.254.169.254"]
)
def test_metadata_services_are_never_reached(host: str) -> None:
    with pytest.raises(DeliveryFailed):
        open_checked(host, 80, allow_private=True, deadline=Deadline(1))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "192.168.1.1",
        "172.16.0.1",
        "::1",
        "fd00::1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "100.64.0.1",
    ],
)
def test_private_addresses_need_to_be_allowed(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    found = [(family, socket.SOCK_STREAM, 6, "", (address, 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(DeliveryFailed, match="private"):
        open_checked("hooks.example.com", 443, allow_private=False, deadline=Deadline(1))


def test_messages_do_not_go_over_the_internet_in_the_clear() -> None:
    with pytest.raises(DeliveryFailed, match="clear"):
        post("http://hooks.example.com/", b"{}", {}, allow_private=False)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"url": "https://a.example", "url_env": "PENSTOCK_ALERT_URL"},
        {"url": "http://a.example"},
        {"url": "ftp://a.example"},
        {"url": "https://user:pass@a.example"},
        {"url": "https://a.example\r\nx"},
        {"url_env": "OPENAI_API_KEY"},
        {"url": "https://a.example", "signing_env": "AWS_SECRET_ACCESS_KEY"},
        {"url": "https://a.example", "signing_env": "PENSTOCK_ALERT_A", "signing_secret": "b"},
        {"url": "https://a.example", "recipients": ("a@b",)},
        {"kind": "slack", "url": "https://a.example", "signing_env": "PENSTOCK_ALERT_A"},
        {"kind": "email", "sender": "a@b", "recipients": ("c@d",)},
        {"kind": "email", "host": "mail.example", "sender": "a@b"},
        {"kind": "email", "host": "mail.example", "recipients": ("c@d",)},
        {"kind": "email", "host": "mail.example", "sender": "a@b", "recipients": ("c@d\nBcc: x@y",)},
        {
            "kind": "email",
            "host": "mail.example",
            "sender": "a@b",
            "recipients": ("c@d",),
            "security": "none",
        },
        {"kind": "email", "host": "mail.example", "sender": "a@b", "recipients": ("c@d",), "port": 0},
        {
            "kind": "email",
            "host": "mail.example",
            "sender": "a@b",
            "recipients": ("c@d",),
            "password_env": "HOME",
        },
    ],
)
def test_a_channel_that_could_not_send_or_says_too_much_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ChannelInvalid):
        check_channel(ChannelContent(**{"kind": "webhook", **fields}))


def test_channels_are_kept_while_rules_name_them(bench: Bench, received: Received) -> None:
    bench.hook(received.url)
    fire(bench, "hook")
    with pytest.raises(ChannelInUse, match="errors"):
        bench.channels.delete("hook")
    bench.rule(notify=())
    bench.channels.delete("hook")
    assert [state for _, _, state in bench.messages()] == ["dropped"]
    with pytest.raises(UnknownChannel):
        bench.channels.get("hook")


def test_a_channel_can_be_tried(bench: Bench, received: Received) -> None:
    bench.hook(received.url)
    message = bench.channels.test("hook", actor="ann")
    assert bench.delivery.run_once() == 1
    assert json.loads(received.bodies[0])["kind"] == "test"
    assert bench.channels.message(message.id).state == "sent"


def test_old_messages_are_forgotten_and_those_that_wait_are_not(bench: Bench, received: Received) -> None:
    bench.hook(received.url)
    fire(bench, "hook")
    bench.delivery.run_once()
    bench.hook("http://127.0.0.1:9/", name="away")
    bench.channels.test("away", actor="ann")
    bench.now += 91 * 86_400 * S
    bench.delivery._sweep()
    assert [one.channel for one in bench.channels.messages()] == ["away"]


def test_a_rule_that_flaps_does_not_fill_the_disk(
    control_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.monitors.delivery.MAX_HISTORY", 3)
    bench = Bench(control_engine)
    bench.rule()
    for number in range(6):
        bench.step(error_share=0.5 * (number % 2))
    newest = [one.id for one in bench.alerts.history(limit=3)]
    bench.delivery._sweep()
    assert [one.id for one in bench.alerts.history()] == newest


_KILLED = """
import os, signal, sys
from penstock.store.control.engine import open_control
from tests.monitors.bench_of_alerts import Bench
bench = Bench(open_control(sys.argv[1]))
moment = sys.argv[2]
def die(*_, **__): os.kill(os.getpid(), signal.SIGKILL)
if moment == "before":
    bench.delivery._sender.send = die
else:
    send = bench.delivery._sender.send
    def then_die(*given, **more):
        send(*given, **more)
        die()
    bench.delivery._sender.send = then_die
bench.delivery.run_once()
"""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_message_outlives_the_process_that_sends_it(
    sqlite_engine: Engine, received: Received, moment: str
) -> None:
    bench = Bench(sqlite_engine)
    bench.hook(received.url)
    fire(bench, "hook", alert=Threshold(above=0.1))
    root = Path(__file__).parents[2]
    url = str(sqlite_engine.url)
    done = subprocess.run([sys.executable, "-c", _KILLED, url, moment], cwd=root, timeout=240, check=False)
    assert done.returncode == -signal.SIGKILL
    assert bench.messages() == [("transition", "alert", "pending")]
    bench.now += 60 * S
    assert bench.delivery.run_once() == 1
    ids = [json.loads(body)["id"] for body in received.bodies]
    assert len(ids) == (1 if moment == "before" else 2) and len(set(ids)) == 1
