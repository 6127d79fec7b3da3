"""The kinds of places that documents come from, one file each."""
