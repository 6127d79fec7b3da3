"""One file a page: its frozen dataclass, how it is filled, and its routes."""
