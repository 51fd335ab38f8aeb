"""How fast premblyd is, side by side with what else there is: `python -m tests.bench`."""
