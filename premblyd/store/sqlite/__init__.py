"""What is SQLite's own: opening, locking, and the thread that writes."""
