"""What a service tells systemd, and the sockets it gets: sd_notify(3), sd_listen_fds(3)."""

import os
import socket
import time
from collections.abc import Mapping

FIRST_SOCKET = 3
SEND_TIMEOUT_S = 1.0  # the loop waits meanwhile


def notify(*lines: str, environ: Mapping[str, str] = os.environ) -> None:
    """Tell systemd `lines` such as READY=1. Without systemd this does nothing."""
    address = environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # the abstract namespace
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.settimeout(SEND_TIMEOUT_S)
        try:
            sender.sendto("\n".join(lines).encode(), address)
        except OSError:  # systemd is gone or busy: nothing that we could do about it
            return


def reloading() -> None:
    """Tell systemd that a reload began (Type=notify-reload wants the time too)."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def watchdog_interval_s(environ: Mapping[str, str] = os.environ) -> float | None:
    """Return how often to feed the watchdog: half of what systemd allows; None without one."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 2_000_000 if microseconds.isdecimal() else None


def listen_sockets(environ: Mapping[str, str] = os.environ) -> list[socket.socket]:
    """Return the listening sockets that systemd passed; none without socket activation."""
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    sockets = []
    for descriptor in range(FIRST_SOCKET, FIRST_SOCKET + int(environ.get("LISTEN_FDS", "0"))):
        passed = socket.socket(fileno=descriptor)
        passed.setblocking(False)
        passed.set_inheritable(False)
        sockets.append(passed)
    return sockets
