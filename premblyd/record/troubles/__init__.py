"""Trouble: what needs an operator, each kind a row of one table with all that is told of it."""
