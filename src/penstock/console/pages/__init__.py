"""One file a page: its frozen dataclass, how it is filled, its routes."""
