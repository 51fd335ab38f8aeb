"""What is SQLite's own: its files, opening and locking them, transactions."""
