"""Runs of tuning: prepared, driven, watched, killed and resumed."""
