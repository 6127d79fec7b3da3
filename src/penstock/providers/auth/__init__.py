"""How a provider knows who calls: apart from the dialect, so that any dialect goes with any of them."""
