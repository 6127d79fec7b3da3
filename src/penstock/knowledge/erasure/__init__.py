"""Erasing documents for good: found everywhere, removed everywhere, kept out from then on, with a receipt."""
