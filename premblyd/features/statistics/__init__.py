"""Counts by the hour."""
