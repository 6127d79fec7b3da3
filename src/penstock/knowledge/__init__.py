"""Knowledge bases: sources → documents → passages → embeddings → versioned index → cited answers."""
