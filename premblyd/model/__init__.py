"""The tables, what their columns are, their states, the statements on them and their history."""
