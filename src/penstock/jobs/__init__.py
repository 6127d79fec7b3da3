"""Durable work: jobs with leases, fencing, a step journal, logs, retry and cancel."""
