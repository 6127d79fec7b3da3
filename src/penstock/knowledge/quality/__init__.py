"""Is retrieval any good, and what was missed: labelled questions, measuring, comparing, explaining, reports."""
