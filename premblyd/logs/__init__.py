"""The log: where lines go, what a line looks like, and what others may say in it."""

from premblyd.importing import without

# With rich it would show tracebacks. The log has none, and rich takes 25 ms of a start: 6 %.
with without("rich"):
    import structlog as structlog
