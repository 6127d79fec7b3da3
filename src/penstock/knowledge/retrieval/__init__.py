"""From a question to the passages that are shown: filters, candidates, fusion, second looks, packing, tuning."""
