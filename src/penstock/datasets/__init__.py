"""Datasets: rows from many formats, immutable versions, splits, cleaning, review, datasheets."""
