"""Copies of the record: made, named and put back."""
