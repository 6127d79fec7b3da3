"""Tables of the `jobs` room."""
