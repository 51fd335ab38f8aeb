"""What waits, runs and has ended: the inbox, claims, finishes, with their statements."""
