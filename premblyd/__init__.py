"""premblyd: a durable webhook daemon for Prembly's identity verifications."""

# .dev0: not released. What is built names its commit there (systemd/version.py).
__version__ = "0.3.0.dev0"
