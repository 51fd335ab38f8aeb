"""Asking Prembly: what is still pending, what a hook needs confirmed, and what was missed."""
