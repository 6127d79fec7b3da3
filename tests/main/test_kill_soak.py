"""The control process, killed again and again at moments of chance while senders deliver over HTTP and a gateway writes.

Senders count what was answered with 200 and send everything else again, as OpenTelemetry's exporters do. In the end all
of it is there, once. `PENSTOCK_KILLS=100` makes it a long evening.
"""

import http.client
import json
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest

from penstock.main.home_files import read_admin_key
from penstock.main.recording import Recording
from penstock.spec.home import Home
from penstock.telemetry.encode import encode_span
from penstock.telemetry.spool import open_writer
from tests.fixtures.mortal.house import KILLED, MortalHouse
from tests.fixtures.ports import free_port
from tests.fixtures.spans import T0, make_span
from tests.main import lives

LIVES = "tests.main.lives"
N_KILLS = int(os.environ.get("PENSTOCK_KILLS", "6"))
SPANS_PER_REQUEST = 8
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 + 12 * N_KILLS)]


@pytest.fixture
def house(mortal_house: MortalHouse) -> MortalHouse:
    return mortal_house


class Sender(threading.Thread):
    """Sends request after request, each until it is answered with 200."""

    def __init__(self, home: Home, port: int, name: int) -> None:
        super().__init__(daemon=True)
        self.taken: list[str] = []
        """Ids of spans that were acknowledged."""
        self.n_sent_again = 0
        self.stop = threading.Event()
        self._home = home
        self._port = port
        self._name = name

    def run(self) -> None:
        """Send until told to stop; the last request is seen through."""
        number = 0
        while not self.stop.is_set():
            number += 1
            ids = [f"{self._name:04x}{number:08x}{part:04x}" for part in range(1, SPANS_PER_REQUEST + 1)]
            spans = [
                {
                    "traceId": f"{self._name:08x}{number // 3 + 1:024x}",
                    "spanId": span_id,
                    "name": "step",
                    "startTimeUnixNano": str(T0 + number),
                    "endTimeUnixNano": str(T0 + number + 5),
                    "attributes": [{"key": "gen_ai.prompt", "value": {"stringValue": lives.TEXT}}],
                }
                for span_id in ids
            ]
            body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode()
            while not self._deliver(body):
                self.n_sent_again += 1
                self.stop.wait(0.01)
            self.taken += ids

    def _deliver(self, body: bytes) -> bool:
        try:
            key = read_admin_key(self._home)
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
            try:
                headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
                connection.request("POST", "/v1/traces", body, headers)
                answer = connection.getresponse()
                answer.read()
                return answer.status == 200
            finally:
                connection.close()
        except Exception:  # whatever happens to a sender, it sends again
            return False


def test_nothing_acknowledged_is_lost_or_doubled_however_often_the_process_is_killed(
    house: MortalHouse, tmp_path: Path
) -> None:
    rng = random.Random(os.environ.get("PENSTOCK_SEED", "7"))
    home, port = Home(root=tmp_path / "home"), free_port()
    home.root.mkdir()
    home.settings.write_text("[traces]\ngrpc_port = 0\n")
    senders = [Sender(home, port, name) for name in (1, 2)]
    gateway = open_writer(home.spool, "gateway")
    written: list[str] = []

    def n_taken() -> int:
        return sum(len(sender.taken) for sender in senders)

    pid = house.begin(f"{LIVES}:control", root=home.root, port=port)
    for sender in senders:
        sender.start()
    for number in range(1, N_KILLS + 1):
        before = n_taken()
        while n_taken() <= before + 2 * SPANS_PER_REQUEST:
            time.sleep(0.01)
        span = make_span(number, trace=7000 + number, input=lives.TEXT)
        gateway.append_durable([encode_span(span)])
        written.append(span.span_id)
        time.sleep(rng.random() ** 2)
        os.kill(pid, signal.SIGKILL)
        end = house.wait()
        assert end.status == KILLED, end.log
        pid = house.begin(f"{LIVES}:control", root=home.root, port=port)
    for sender in senders:
        sender.stop.set()
    for sender in senders:
        sender.join()
    os.kill(pid, signal.SIGTERM)
    end = house.wait()
    assert end.status == 0, end.log
    gateway.close()

    recording = Recording(home, lives.settings_of())
    recording.collector.run_once()
    recording.collector.run_once()
    with recording.store.file.cursor() as cursor:
        rows = cursor.execute("SELECT span_id, count(*) FROM spans GROUP BY 1").fetchall()
        n_payloads = cursor.execute("SELECT count(*) FROM payloads").fetchall()[0][0]
        n_in_rows = cursor.execute("SELECT sum(n_spans) FROM traces").fetchall()[0][0]
        n_traces = cursor.execute("SELECT count(*), count(DISTINCT trace_id) FROM traces").fetchall()[0]
    found = {f"{span_id:016x}": count for span_id, count in rows}
    acknowledged = [*written, *(span_id for sender in senders for span_id in sender.taken)]
    assert [span_id for span_id in acknowledged if span_id not in found] == []
    assert set(found.values()) == {1}
    assert n_payloads == n_in_rows == len(found)
    assert n_traces[0] == n_traces[1]
    assert sum(sender.n_sent_again for sender in senders) > 0, "some were in hand when it was killed"
    recording.stop_taking()
    recording.close()
    assert {path.name.split("-")[0] for path in home.spool.iterdir()} == {"control"}, (
        "folders of the dead are gone"
    )
