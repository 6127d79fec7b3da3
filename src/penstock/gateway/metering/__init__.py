"""Counters and histograms of gateway workers: kept in mapped files, summed by whoever is asked, written as text."""
