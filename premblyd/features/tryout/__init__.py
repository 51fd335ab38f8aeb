"""Trying a configuration: what it would do, or would have done; a demo."""
