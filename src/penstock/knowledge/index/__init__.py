"""Index generations: files that are derived from the control tables and can be deleted at any time."""
