"""Standing questions over spans: alerts with states and a history, and their delivery."""
