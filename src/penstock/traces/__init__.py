"""Reading traces: the collector, lists and pages, the waterfall layout."""
