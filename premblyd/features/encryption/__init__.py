"""The SQLite file encrypted, by SQLCipher."""
