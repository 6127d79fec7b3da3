"""Assets, immutable versions, aliases with evidence, lineage: one mechanism for everything that ships."""
