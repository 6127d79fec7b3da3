"""Gates: rules, verdicts, evidence, and how they are told to CI."""
