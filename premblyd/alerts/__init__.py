"""Alerts: the daemon reports problems by itself."""
