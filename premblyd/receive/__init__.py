"""How a webhook comes in: the public HTTP server."""
