"""The circuit breaker: opens on its ratio, lets one probe through, closes on a success; checked against a plain model."""

from array import array

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from penstock.gateway.routing.breaker import CIRCUIT_CELLS, TALLY_CELLS, Circuit, Tally, should_open
from penstock.spec.routes import BreakerPolicy

POLICY = BreakerPolicy(failure_ratio=0.5, min_calls=4, window_s=10.0, open_s=5.0)


class BreakerMachine(RuleBasedStateMachine):
    """Two processes share a circuit; the model is a list of outcomes and three plain variables."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.circuit = Circuit(array("d", bytes(8 * CIRCUIT_CELLS)), 0)
        self.tallies = [Tally(array("d", bytes(8 * TALLY_CELLS)), 0, POLICY.window_s) for _ in range(2)]
        self.open_until: float | None = None
        self.probe_until = 0.0
        self.outcomes: list[tuple[int, bool]] = []
        self.is_probing = False

    def bucket(self) -> int:
        return int(self.now / (POLICY.window_s / 10))

    @rule(pause=st.floats(0.01, 4.0))
    def time_passes(self, pause: float) -> None:
        self.now += pause

    @precondition(lambda self: self.open_until is None)
    @rule(is_bad=st.booleans(), process=st.integers(0, 1))
    def a_call_ends(self, is_bad: bool, process: int) -> None:
        self.tallies[process].count(self.now, self.circuit.generation, is_bad=is_bad)
        self.outcomes.append((self.bucket(), is_bad))
        recent = [bad for number, bad in self.outcomes if number > self.bucket() - 10]
        counts = [tally.read(self.now, self.circuit.generation) for tally in self.tallies]
        assert sum(good + bad for good, bad in counts) == len(recent)
        wanted = any(recent) and len(recent) >= POLICY.min_calls and sum(recent) >= 0.5 * len(recent)
        assert should_open(POLICY, counts) == wanted
        if wanted and is_bad:
            self.circuit.open(self.now + POLICY.open_s)
            self.open_until = self.now + POLICY.open_s

    @rule()
    def somebody_wants_to_probe(self) -> None:
        may = self.open_until is not None and self.now >= self.open_until and self.now >= self.probe_until
        assert self.circuit.take_probe(self.now, POLICY.open_s) == may
        if may:
            self.probe_until, self.is_probing = self.now + POLICY.open_s, True

    @precondition(lambda self: self.is_probing)
    @rule(outcome=st.sampled_from(["good", "bad", "nothing"]))
    def the_probe_ends(self, outcome: str) -> None:
        self.is_probing, self.probe_until = False, 0.0
        if outcome == "good":
            self.circuit.close()
            self.open_until, self.outcomes = None, []
        elif outcome == "bad":
            self.circuit.open(self.now + POLICY.open_s)
            self.open_until = self.now + POLICY.open_s
        else:
            self.circuit.give_probe_back()

    @invariant()
    def the_state_is_that_of_the_model(self) -> None:
        if self.open_until is None:
            assert self.circuit.state(self.now) == "closed"
            assert self.circuit.free_at(self.now) == self.now
        else:
            assert self.circuit.state(self.now) == ("open" if self.now < self.open_until else "half-open")
            assert self.circuit.free_at(self.now) == max(self.open_until, self.probe_until)


TestBreaker = BreakerMachine.TestCase
TestBreaker.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_one_probe_at_a_time_and_another_when_its_process_has_died() -> None:
    circuit = Circuit(array("d", bytes(24)), 0)
    circuit.open(10.0)
    assert not circuit.take_probe(9.9, 5.0)
    assert [circuit.take_probe(10.0, 5.0) for _ in range(3)] == [True, False, False]
    assert circuit.take_probe(15.0, 5.0)


def test_outcomes_from_before_the_circuit_closed_do_not_count() -> None:
    circuit = Circuit(array("d", bytes(24)), 0)
    tally = Tally(array("d", bytes(8 * TALLY_CELLS)), 0, 30.0)
    for _ in range(5):
        tally.count(100.0, circuit.generation, is_bad=True)
    circuit.open(110.0)
    circuit.close()
    assert tally.read(101.0, circuit.generation) == (0.0, 0.0)


@given(amounts=st.lists(st.sampled_from([1.0, -1.0]), max_size=20))
def test_taking_back_never_leaves_less_than_nothing(amounts: list[float]) -> None:
    tally = Tally(array("d", bytes(8 * TALLY_CELLS)), 0, 30.0)
    for amount in amounts:
        tally.count(100.0, 0.0, is_bad=False, amount=amount)
    assert tally.read(100.0, 0.0)[0] >= 0


def test_successes_alone_open_nothing() -> None:
    assert not should_open(BreakerPolicy(failure_ratio=0.0, min_calls=1), [(10.0, 0.0)])
