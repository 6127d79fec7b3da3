"""Generations of a knowledge base: built side by side, switched in one step, proven, thrown away."""
