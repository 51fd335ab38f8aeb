"""Hooks that stay running and read a line for each delivery."""
