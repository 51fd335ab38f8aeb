"""Ports on the loopback."""

import contextlib
import random
import socket


def free_port() -> int:
    """Return a port that nobody uses, outside those that clients get: a client that keeps
    trying a port of its own kind connects to itself one day, and the daemon can't bind."""
    for _ in range(100):
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("no free port was found")
