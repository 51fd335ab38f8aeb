"""Troubles: what needs an operator. Each kind is a row of one table."""
