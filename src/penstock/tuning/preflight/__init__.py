"""What is looked at before a run starts: the silent losses of fine-tuning, found in seconds and told by row number."""
