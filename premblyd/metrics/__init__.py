"""Metrics for Prometheus: counts since the start, and the present state."""
