"""The tables, SQLite, and the thread that writes."""
