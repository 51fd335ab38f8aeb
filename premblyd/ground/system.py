"""What systemd is told and passes on, sd_notify(3) and sd_listen_fds(3); and what the kernel knows
about processes, proc(5)."""

import contextlib
import ctypes
import os
import re
import socket
import time
from collections.abc import Mapping
from pathlib import Path

from premblyd.ground.errors import PremblydError

FIRST_SOCKET = 3
MAX_SOCKETS = 1000  # more is a mistake
SEND_TIMEOUT_S = 1.0  # the loop waits meanwhile


class PassedSocketError(PremblydError):
    """What systemd passed is no listening socket. The text says what it is."""


class ServiceManager:
    """systemd, when it started this service; without it every message goes nowhere.

    The socket stays open: out of descriptors, the watchdog must still be fed.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # @ stands for the abstract namespace.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(SEND_TIMEOUT_S)

    def notify(self, *lines: str) -> None:
        """Send systemd `lines` such as READY=1."""
        if self._address:
            with contextlib.suppress(OSError):  # it is gone or busy: nothing to do about that
                self._socket.sendto("\n".join(lines).encode(), self._address)

    def notify_reloading(self) -> None:
        """Tell systemd that a reload began. (Type=notify-reload requires the time too.)"""
        self.notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def close(self) -> None:
        self._socket.close()


def watchdog_interval_s(environ: Mapping[str, str] = os.environ) -> float | None:
    """Return how often to feed the watchdog: half of what systemd allows; None without one."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 2_000_000 if re.fullmatch("[0-9]{1,18}", microseconds) else None


def listen_sockets(environ: Mapping[str, str] = os.environ) -> list[socket.socket]:
    """Return the listening sockets that systemd passed; none without socket activation, or when
    they were passed to another process. Raise PassedSocketError for what can't be accepted on."""
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = environ.get("LISTEN_FDS", "0")
    if not re.fullmatch(r"[0-9]{1,4}", count) or int(count) > MAX_SOCKETS:
        raise PassedSocketError(f"LISTEN_FDS should be 0 to {MAX_SOCKETS}")
    descriptors = range(FIRST_SOCKET, FIRST_SOCKET + int(count))
    for descriptor in descriptors:
        _check_socket(descriptor)
    sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    for passed in sockets:
        passed.setblocking(False)
        passed.set_inheritable(False)
    return sockets


def _check_socket(descriptor: int) -> None:
    """Raise PassedSocketError unless streams can be accepted on `descriptor`."""
    try:
        # Looked at through a copy, which is closed again: the descriptor itself stays open.
        with socket.socket(fileno=os.dup(descriptor)) as passed:
            family, kind = passed.family, passed.type
            is_listening = passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise PassedSocketError(f"descriptor {descriptor}: {error.strerror}") from None
    if family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
        raise PassedSocketError(f"descriptor {descriptor} is neither an IP nor a unix socket")
    if kind != socket.SOCK_STREAM:
        raise PassedSocketError(f"descriptor {descriptor} is no stream: use ListenStream=")
    if not is_listening:
        raise PassedSocketError(f"descriptor {descriptor} does not listen: use Accept=no")


_ENDED = "ZX"  # a zombie, or dead; its parent has not looked yet
_PR_SET_DUMPABLE = 4  # linux/prctl.h


def hide_this_process() -> None:
    """Let no process of the same user read this one's memory and environment, which hold secrets:
    hooks run as that user. It holds until this process becomes another program, and what is started
    is not hidden. There is no core dump either.

    To take secrets out of os.environ is not enough: the kernel shows the environment that a program
    was started with. Root may read it, and `send` does, for the keys of the running service.
    """
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def runs(pid: int, start: int) -> bool:
    """Return whether the process of this number runs that was started then. Where it is hidden, as
    in a sandbox with ProtectProc=, the number alone must do."""
    if os.path.exists(f"/proc/{pid}"):
        return process_start(pid) == start
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def process_start(pid: int) -> int | None:
    """Return when a process was started, in ticks since boot: that and its number tell it from all
    others. None: it has ended, or can't be looked at."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(") ")[2].split()  # the name before it may hold anything
    return None if fields[0] in _ENDED else int(fields[19])  # field 22 of all
