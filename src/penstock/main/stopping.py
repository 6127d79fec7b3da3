"""How long each process may take to stop. A process is killed only after all its own bounds have passed.

The supervisor's patience is added up from the bounds that the processes keep, so neither can outgrow the other.
"""

DRAIN_S = 8
"""How long calls under way may go on in a gateway, the apps or the engine once it was asked to stop."""
CONTROL_DRAIN_S = 6
THREAD_STOP_S = 8.0
"""How long each background thread of control may take to end; a job in hand goes back to the queue."""
CONTROL_THREADS = (
    "collector",
    "jobs",
    "settings",
    "journals",
    "alerts",
    "messages",
    "upkeep",
    "evaluations 1",
    "evaluations 2",
    "proposals",
    "measuring",
    "judged answers",
    "sources",
    "load tests",
    "tuning",
    "smaller models",
    "deployments",
    "shared engine",
)
FLUSH_S = 4.0
"""For cutting off what is left, and bringing spans and counters to disk."""

PATIENCE_S = DRAIN_S + FLUSH_S
"""How long the supervisor waits for a gateway, the apps or the engine."""
CONTROL_PATIENCE_S = CONTROL_DRAIN_S + len(CONTROL_THREADS) * THREAD_STOP_S + FLUSH_S
