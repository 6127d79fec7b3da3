"""Estimates, comparisons, agreement, power and sequential tests: numpy in, figures with intervals out."""
