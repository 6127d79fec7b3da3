"""Recipes: what a person writes about one run, read with errors that name line and cure, and completed by method."""
