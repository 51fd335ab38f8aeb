"""Ports on the loopback."""

import contextlib
import os
import random
import socket

FIRST, EACH, WORKERS = 20_000, 1_800, 7  # the last is of a session without xdist


def free_port() -> int:
    """Return a port that nobody uses, outside those that clients get: a client that keeps
    trying a port of its own kind connects to itself one day, and the daemon can't bind. Each of the
    suite's workers has ports of its own: a daemon that is killed comes back to its port."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw6").removeprefix("gw")) % WORKERS
    first = FIRST + worker * EACH
    for _ in range(100):
        port = random.randrange(first, first + EACH)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("no free port was found")
