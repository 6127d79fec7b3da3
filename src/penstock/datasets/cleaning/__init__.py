"""Cleaning of datasets: duplicates, contamination, personal data, quality. Pure functions over rows, and one service."""
