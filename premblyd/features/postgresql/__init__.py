"""The record on a PostgreSQL server, which several hosts may share; and moving it there."""
