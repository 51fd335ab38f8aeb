"""Asking Prembly back."""
