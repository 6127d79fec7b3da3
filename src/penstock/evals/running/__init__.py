"""Running evaluations: targets, pace, budget, store, resume; experiments over many of them."""
