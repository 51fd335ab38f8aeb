"""Alerts: the daemon tells people of trouble by itself."""
