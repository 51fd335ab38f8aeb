"""The two databases, SQLite and PostgreSQL, behind one contract (engine.py), and the thread that
writes."""
