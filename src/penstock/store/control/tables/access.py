"""Tables of the `access` room."""
