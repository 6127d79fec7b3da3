"""The providers known by name: rows and nothing else. Gateways get theirs from the snapshot and never load these."""
