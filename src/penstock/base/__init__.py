"""What every room stands on: errors, ids, clock, digests, retry schedule, logs. Imports nothing of ours."""
