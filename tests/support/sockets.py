"""Listening sockets, handed over as systemd does it: sd_listen_fds(3)."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Puts the inherited descriptors at 3 and on, as systemd does before it executes a service.
HAND_OVER = """
import os
for target, source in enumerate({descriptors}, 3):
    os.dup2(source, target)
os.environ.update(LISTEN_FDS="{count}", LISTEN_PID=str(os.getpid() + {off}))
"""


@contextmanager
def handed_over(path: Path, off: int = 0) -> Iterator[tuple[str, list[int], int]]:
    """Yield code that takes over a TCP and a unix socket, what to pass on, and the port."""
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(path))
        unix.listen()
        high = [fcntl.fcntl(listening, fcntl.F_DUPFD_CLOEXEC, 50) for listening in (tcp, unix)]
        code = HAND_OVER.format(descriptors=high, count=len(high), off=off)
        yield code, high, tcp.getsockname()[1]
        for descriptor in high:
            os.close(descriptor)
