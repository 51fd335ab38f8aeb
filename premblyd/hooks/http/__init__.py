"""HTTP hooks."""
