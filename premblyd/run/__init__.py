"""What runs: which actions an event is for, their shell and HTTP hooks, and retries."""
