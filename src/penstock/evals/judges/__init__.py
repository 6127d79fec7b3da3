"""Models as judges, and what people say of them: rubrics, pairs, claims, calibration."""
