"""premblyd: a durable webhook daemon for Prembly's identity verifications."""

__version__ = "0.1.0"
