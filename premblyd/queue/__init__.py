"""What waits, runs and has ended: the inbox, claims, finishes, `once`, `order`, with their
statements."""
