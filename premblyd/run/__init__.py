"""What runs: the hooks of claimed deliveries, as processes and over HTTP, and what comes of it."""
