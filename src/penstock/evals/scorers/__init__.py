"""Scorers that are code: text, classes, retrieval, safety, form, cost."""
