"""Metrics for Prometheus: what has happened since the start, and how things stand."""
