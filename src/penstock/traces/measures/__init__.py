"""Measures over the record: comparison with the period before, the way to the traces behind a point, dashboards."""
