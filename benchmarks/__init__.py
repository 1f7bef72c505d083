"""Measures the cost and the freshness of the watcher."""
