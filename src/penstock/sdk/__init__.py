"""The SDK: what programs use to leave traces, below the names of `penstock` itself (`penstock.observe` …)."""
