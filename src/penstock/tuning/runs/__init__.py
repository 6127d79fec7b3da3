"""Runs of tuning: prepared, frozen, trained in a process of their own, packaged, and kept as records that survive."""
