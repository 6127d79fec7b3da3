"""What other tools keep, read into datasets, prompts and evaluations, with a report of what was not carried over."""
