"""What systemd hears and hands over: sd_notify(3), sd_listen_fds(3), the watchdog."""

import fcntl
import itertools
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, nullcontext, suppress
from pathlib import Path
from signal import SIGHUP
from typing import Any

import pytest

from premblyd.ground import system
from tests.support.daemon import Premblyd
from tests.support.database import away
from tests.support.requests import request
from tests.support.rows import for_each
from tests.support.sockets import HAND_OVER, handed_over
from tests.support.webhooks import PATH, signed

SHOW = """
from premblyd.ground import system
for one in system.listen_sockets():
    name = one.getsockname()
    print(name if isinstance(name, str) else name[1], one.getblocking(), one.get_inheritable())
"""


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket on which systemd hears its services."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        yield manager


def notify(*lines: str, address: str | None) -> None:
    environ = {} if address is None else {"NOTIFY_SOCKET": address}
    with closing(system.ServiceManager(environ)) as service_manager:
        service_manager.notify(*lines)


def test_lines_reach_the_manager_as_one_datagram_also_in_the_abstract_namespace(
    manager: socket.socket, tmp_path: Path
) -> None:
    notify("READY=1", "STATUS=fine ✓", address=manager.getsockname())
    assert manager.recv(4096).decode() == "READY=1\nSTATUS=fine ✓"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as abstract:
        abstract.bind(f"\0premblyd-test-{os.getpid()}")
        notify("STOPPING=1", address=abstract.getsockname().decode().replace("\0", "@"))
        assert abstract.recv(4096) == b"STOPPING=1"
    for address in (None, "", str(tmp_path / "gone")):  # without a manager nothing happens
        notify("READY=1", address=address)


def test_who_does_not_listen_is_not_waited_for(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "SEND_TIMEOUT_S", 0.01)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.setblocking(False)
        with suppress(BlockingIOError):
            for _ in range(10_000):
                other.sendto(b"x", manager.getsockname())
    notify("WATCHDOG=1", address=manager.getsockname())


def test_without_free_descriptors_the_manager_still_hears(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {"NOTIFY_SOCKET": manager.getsockname()}
    with closing(system.ServiceManager(environ)) as service_manager:
        monkeypatch.setattr(socket, "socket", lambda *_: 1 / 0)
        service_manager.notify("WATCHDOG=1")
    assert manager.recv(4096) == b"WATCHDOG=1"


@for_each(
    ("environ", "interval_s"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getppid())}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_fed_twice_in_its_time(environ: dict[str, str], interval_s: Any) -> None:
    assert system.watchdog_interval_s(environ) == interval_s


@pytest.mark.process
@pytest.mark.parametrize("off", [0, 1])
def test_only_the_process_that_is_meant_takes_the_sockets(tmp_path: Path, off: int) -> None:
    with handed_over(tmp_path / "s", off) as (code, descriptors, port):
        command = [sys.executable, "-c", code + SHOW]
        ended = subprocess.run(command, pass_fds=descriptors, capture_output=True, text=True)
    shown = [f"{port} False False", f"{tmp_path}/s False False"]
    assert (ended.stdout.splitlines(), ended.stderr) == ([] if off else shown, "")


@for_each("count", ["-1", "", "1.5", "1001", "9" * 5000, "²"])
def test_an_odd_number_of_sockets_is_refused(count: str) -> None:
    with pytest.raises(system.PassedSocketError, match="LISTEN_FDS should be"):
        system.listen_sockets({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": count})


def test_sockets_of_another_process_or_none_are_not_taken() -> None:
    for pid in ("", "x", "0", "9" * 5000):
        assert system.listen_sockets({"LISTEN_PID": pid, "LISTEN_FDS": "x"}) == []
    for environ in ({}, {"LISTEN_FDS": "0"}):
        assert system.listen_sockets({"LISTEN_PID": str(os.getpid()), **environ}) == []


def bound(kind: socket.SocketKind) -> socket.socket:
    passed = socket.socket(socket.AF_INET, kind)
    passed.bind(("127.0.0.1", 0))
    return passed


@pytest.mark.process
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: bound(socket.SOCK_DGRAM), "descriptor 3 is no stream: use ListenStream="),
        (lambda: bound(socket.SOCK_STREAM), "descriptor 3 does not listen: use Accept=no"),
        (lambda: os.fdopen(os.open("/dev/null", os.O_RDONLY)), "descriptor 3: Socket operation"),
    ],
)
def test_what_can_not_accept_ends_the_start_in_words(tmp_path: Path, make: Any, words: str) -> None:
    with make() as passed:
        high = fcntl.fcntl(passed, fcntl.F_DUPFD_CLOEXEC, 50)
        code = HAND_OVER.format(descriptors=[high], count=1, off=0)
        status, said = Premblyd(tmp_path).fail_to_start(code, [high])
        os.close(high)
    assert status == 78
    told = f"Can't listen on the sockets that systemd passed: {words}"
    assert said.splitlines()[-1].startswith(told)
    assert "Traceback" not in said


STUCK = """
import threading
from premblyd import daemon
from premblyd.queue import inbox
daemon.STUCK_MS = 500
inbox._PROVE_COMMIT = inbox.Operation(inbox.Step.PROOF, lambda *_: threading.Event().wait())

from premblyd.ground.system import ServiceManager
judge = daemon.Daemon.is_alive

def is_alive(self):
    alive = judge(self)
    ServiceManager().notify(f"ALIVE={alive:d}")
    return alive

daemon.Daemon.is_alive = is_alive
"""


@pytest.mark.process
@pytest.mark.parametrize(("fault", "is_fed"), [("fails", True), ("hangs", False)])
def test_the_watchdog_is_fed_while_the_database_fails_but_not_while_it_hangs(
    tmp_path: Path, manager: socket.socket, fault: str, is_fed: bool
) -> None:
    environ = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "200000"}
    with Premblyd(tmp_path) as daemon:
        daemon.start(STUCK if fault == "hangs" else "", **environ)
        with away(daemon.place) if fault == "fails" else nullcontext():
            assert request(daemon.address, "GET", "/healthz", b"", {}).status == 503
            if is_fed:
                fed = (manager.recv(4096) == b"WATCHDOG=1" for _ in itertools.repeat(None))
                assert any(fed)
                assert all(itertools.islice(fed, 15))
            else:
                lately = list[bytes]()  # each time that it is judged is told
                while lately != [b"ALIVE=0"] * 15:
                    lately = [*lately[-14:], manager.recv(4096)]
        if is_fed:
            assert daemon.stop() == 0


@pytest.mark.process
def test_it_serves_the_sockets_and_tells_its_state(tmp_path: Path, manager: socket.socket) -> None:
    said: list[str] = []

    def hear(word: str) -> None:
        """Listen until something that begins with `word` is said."""
        while not (heard := manager.recv(4096).decode()).startswith(word):
            assert heard.startswith(("STATUS=", "WATCHDOG=1")), heard
        said.append(heard)

    path = tmp_path / "s"
    # Fed rarely: the socket holds ten datagrams, and no more comes while it is full.
    environ = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "2000000"}
    daemon = Premblyd(tmp_path, listen="unix:/nonexistent/s")  # systemd's sockets win
    with handed_over(path) as (code, descriptors, port), daemon:
        daemon.start(code, pass_fds=descriptors, is_executed=True, **environ)
        for address in (f"127.0.0.1:{port}", f"unix:{path}"):
            assert request(address, "POST", PATH, b"{}", signed(b"{}")).status == 200
        hear("READY=1")
        (ignored,) = daemon.logged("daemon.listen_ignored")
        assert ignored["listen"] == "unix:/nonexistent/s"
        assert ignored["used"] == [f"127.0.0.1:{port}", f"unix:{path}"]
        hear("WATCHDOG=1")
        daemon.signal(SIGHUP)
        hear("RELOADING=1\nMONOTONIC_USEC=")
        hear("READY=1")
        daemon.configure(lisen="a mistake")
        daemon.signal(SIGHUP)
        hear("RELOADING=1")
        hear("READY=1")  # else `systemctl reload` waits for it
        assert "the old one is used" in said[-1]
        assert daemon.stop() == 0
        hear("STOPPING=1")
    assert path.exists()  # systemd's, not ours to remove
