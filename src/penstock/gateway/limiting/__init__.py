"""The parts of the limiter: rules made ready, counters that may be shared by machines, what callers are told."""
