"""Readers: one file for each way in which rows lie on a disk. Each yields rows and problems, and holds a few rows at most."""
