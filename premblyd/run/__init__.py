"""Running the hooks of claimed deliveries, as processes and over HTTP."""
