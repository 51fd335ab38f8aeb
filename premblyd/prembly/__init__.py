"""What Prembly sends: how it is signed, what it means, and samples of it."""
