"""What Prembly sends: how it is signed, and what it means."""
