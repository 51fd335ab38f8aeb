"""premblyd: a durable webhook daemon for Prembly's identity verifications."""

__version__ = "0.2.0"
