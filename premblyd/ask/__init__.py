"""Asking Prembly about verifications."""
