"""Moving the record from SQLite to PostgreSQL."""
