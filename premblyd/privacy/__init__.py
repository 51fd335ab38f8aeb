"""What is private, and masking it for people who need not see it."""
