"""Copies of the record: `record backup` makes them, `record restore` puts one back."""
