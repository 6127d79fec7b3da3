"""Load tests: calls at a stated rate, latency told without flattery, verdicts with intervals."""
