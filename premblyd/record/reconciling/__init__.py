"""Comparing the record with what Prembly knows: what never came, and which days are complete."""
