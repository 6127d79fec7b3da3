"""Evaluations: scorers, judges, statistics, runs, gates, importers."""
