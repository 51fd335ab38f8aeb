"""Watching the daemon: alerts, heartbeats to a service elsewhere, metrics."""
