"""Where the daemon listens: on systemd's sockets, or on its own, which it removes when it stops."""

import asyncio
import contextlib
import errno
import functools
import os
import select
import socket
import stat
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tornado.ioloop import IOLoop
from tornado.netutil import bind_sockets, bind_unix_socket

from premblyd.config.values import Listen
from premblyd.ground import system
from premblyd.ground.errors import CannotStartError, PremblydError
from premblyd.ground.telemetry import tell

BACKLOG = 1024
WAITING_S = 5.0  # how long those are accepted at a stop who wait for it: BACKLOG at most
PAUSE_S = 1.0  # while the machine lacks what a connection needs
_LACKING = {
    errno.EMFILE: "file descriptors",
    errno.ENFILE: "file descriptors",
    errno.ENOBUFS: "memory",
    errno.ENOMEM: "memory",
}
# Of ip(7) and ipv6(7): the kernel drops packets whose TTL, or hop limit, is less. A connection has
# that of its listening socket.
_MIN_TTL = {socket.AF_INET: (socket.IPPROTO_IP, 21), socket.AF_INET6: (socket.IPPROTO_IPV6, 73)}
_LARGEST_TTL = 255  # systems begin with 64 or 128
# What trying again does not mend: somebody must change the address or a right.
_LASTING = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)


class Listener(socket.socket):
    """A listening socket, for Tornado's server. When the machine lacks something it pauses, and
    clients wait in the kernel's queue. Tornado by itself would try again at once and log a
    traceback each time: that is a whole core, and 8,000 lines a second."""

    def __init__(self, listening: socket.socket) -> None:
        super().__init__(fileno=listening.detach())
        self.setblocking(False)
        self._refuses = False

    def accept(self) -> tuple[socket.socket, Any]:
        """Return a connection. Raise BlockingIOError when none waits, or when the machine lacks
        what it needs."""
        try:
            connection, address = super().accept()
        except OSError as error:
            if error.errno not in _LACKING:
                raise
            tell("daemon.waits", part="connections", lacks=_LACKING[error.errno])
            IOLoop.current().update_handler(self, 0)
            IOLoop.current().call_later(PAUSE_S, self._resume)
            raise BlockingIOError from None
        if self._refuses:
            _drop_below(0, connection)
        return connection, address

    def refuse(self) -> None:
        """Let no more clients connect: who tries to does so again a second later. Those that have
        are accepted, and what they send is received."""
        self._refuses = True
        _drop_below(_LARGEST_TTL, self)

    def _resume(self) -> None:
        if self.fileno() >= 0:
            IOLoop.current().update_handler(self, IOLoop.READ)


@dataclass(frozen=True, kw_only=True)
class Listening:
    """The sockets that the daemon accepts on."""

    sockets: list[Listener]
    is_passed: bool  # systemd's: not ours to remove
    own_path: Path | None = None  # of our own unix socket
    inode: tuple[int, int] | None = None  # its device and inode

    @functools.cached_property  # a reload may ask for it while a stop closes them
    def addresses(self) -> list[str]:
        """Where it listens, as `listen` has it: 127.0.0.1:8080, unix:/path."""
        return [_address(listening) for listening in self.sockets]

    def tell_if_elsewhere(self, where: Listen) -> None:
        """Warn when these are systemd's sockets and none of them is at `where`: they win."""
        if self.is_passed and addresses_of(where).isdisjoint(self.addresses):
            tell(
                "daemon.listen_ignored",
                listen=str(where),
                used=self.addresses,
                remedy="systemctl edit premblyd.socket",
            )

    async def accept_last(self) -> None:
        """Let no more clients connect, and wait until those that have are accepted: the kernel
        resets those that wait when a listening socket is closed. On systemd's they may wait for the
        next daemon."""
        if self.is_passed:
            return
        self._remove_own_file()
        waiting = select.poll()
        for listening in self.sockets:
            listening.refuse()
            waiting.register(listening, select.POLLIN)
        until_s = time.monotonic() + WAITING_S
        while waiting.poll(0) and time.monotonic() < until_s:
            await asyncio.sleep(0.001)

    def close(self) -> None:
        """Accept no more, and remove the file of our own unix socket: not another's that has taken
        its place."""
        for listening in self.sockets:
            listening.close()
        self._remove_own_file()

    def _remove_own_file(self) -> None:
        if self.own_path is None:
            return
        with contextlib.suppress(OSError):  # the folder may be gone, or closed to us by now
            if _inode(self.own_path) == self.inode:
                self.own_path.unlink()


def listen(where: Listen) -> Listening:
    """Take the sockets that systemd passed; without any, listen at `where`. Raise PremblydError
    when that can't be done. For webhooks alone: what systemd passes is theirs."""
    try:
        passed = system.listen_sockets()
    except system.PassedSocketError as error:
        raise CannotStartError(
            f"Can't listen on the sockets that systemd passed: {error}"
        ) from None
    if passed:
        return Listening(sockets=list(map(Listener, passed)), is_passed=True)
    return listen_at(where)


def listen_at(where: Listen) -> Listening:
    """Listen at `where`, whatever systemd passed. Raise PremblydError when that can't be done."""
    try:
        if not where.unix_path:
            own = bind_sockets(where.port, where.host, backlog=BACKLOG)
            return Listening(sockets=list(map(Listener, own)), is_passed=False)
        path = Path(where.unix_path)
        _refuse_live_socket(path)
        unix = Listener(bind_unix_socket(where.unix_path, mode=0o660, backlog=BACKLOG))
        return Listening(sockets=[unix], is_passed=False, own_path=path, inode=_inode(path))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "in use"
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            ports = "-lxp" if where.unix_path else "-ltnp"
            reason = f"{reason}; `sudo ss {ports}` shows which program"
        lasting = getattr(error, "errno", None) in _LASTING
        kind = CannotStartError if lasting else PremblydError
        raise kind(f"Can't listen on {where}: {reason}") from None


def why_not(where: Listen) -> str | None:
    """Listen at `where` for a moment. Return why that can't be done; None if it can."""
    with warnings.catch_warnings():  # Tornado does not close a socket that it can't bind
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            listen_at(where).close()
        except PremblydError as error:
            return str(error)
    return None


def _refuse_live_socket(path: Path) -> None:
    """Raise OSError when somebody listens on the socket at `path`. What a killed daemon left may
    be removed; Tornado removes any."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return
        except TimeoutError:  # its queue is full: somebody is there
            pass
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _drop_below(ttl: int, any_socket: socket.socket) -> None:
    if any_socket.family in _MIN_TTL:
        with contextlib.suppress(OSError):  # then the last few may be reset
            any_socket.setsockopt(*_MIN_TTL[any_socket.family], ttl)


def _inode(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_dev, status.st_ino


def _address(listening: socket.socket) -> str:
    address = listening.getsockname()
    if isinstance(address, tuple):
        return str(Listen(host=address[0], port=address[1]))
    return f"unix:{address}"


def addresses_of(where: Listen) -> set[str]:
    """Return the addresses that `where` may have: a host's name may stand for several."""
    addresses = {str(where)}
    if where.host:
        with contextlib.suppress(OSError):  # the name can't be resolved
            found = socket.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM)
            addresses |= {
                str(Listen(host=str(address[0]), port=where.port)) for *_, address in found
            }
    return addresses
