"""Shell and command hooks."""
