"""The log: where lines go, what a line looks like, and what others may say in it."""
