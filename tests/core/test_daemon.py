"""The daemon's composition: what was opened is closed again, also when the start fails half-way."""

import asyncio
import contextlib
import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from premblyd import daemon as composition
from premblyd import presence
from premblyd.config.load import load_config
from premblyd.config.values import Listen
from premblyd.daemon import Daemon
from premblyd.ground.databases import DatabaseAddress
from premblyd.ground.errors import PremblydError
from premblyd.ground.loops import Loops
from premblyd.queue.register import Hosts, Identity
from premblyd.receive import exchange
from premblyd.receive.listening import listen_at
from premblyd.run.http import HttpRunner
from premblyd.run.kinds import Runners
from tests.support.database import new_place, rows, url_of
from tests.support.queue import claim
from tests.support.rows import for_each
from tests.support.store import NOW_MS, Store
from tests.support.waiting import wait_until
from tests.support.webhooks import signed, webhook

CONFIG = """
listen: {listen}
database: "{database}"
endpoints: [{{name: prembly, path: /webhooks/prembly, keys: {{live: a-key}}}}]
"""
# What the start calls, in its order; each may fail.
STEPS = (
    "backend",
    "Writer",
    pytest.param("Hosts.join", marks=pytest.mark.sqlite),  # there is another
    "find_marks",
    "Runners",
    "Runners.configure",
    "Dispatcher",
    "Receiver",
    "listening.listen",
    "make_server",
    "presence.publish",
    "Heartbeat.beat",
    "Loops.__aenter__",
    "Loops.start",
)


def configured(
    folder: Path, place: DatabaseAddress, listen: str = "unix:{folder}/socket"
) -> Daemon:
    path = folder / "premblyd.yaml"
    listen = listen.format(folder=folder)
    path.write_text(CONFIG.format(listen=listen, database=url_of(place)))
    return Daemon(load_config(path), path)


def open_files() -> list[str]:
    """Return what this process's descriptors are."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
        except FileNotFoundError:  # the one that listed them
            continue
    return sorted(found)


def fail(*arguments: Any, **_: Any) -> Any:
    for argument in arguments:
        if asyncio.iscoroutine(argument):
            argument.close()  # so that it does not warn that nobody waited for it
    raise ZeroDivisionError


@pytest.fixture
def leaving_nothing(tmp_path: Path) -> Iterator[DatabaseAddress]:
    """Where a daemon has its database, of which nothing is left afterwards: its lock, say, ends
    with its file."""
    place = new_place(tmp_path)
    threads, files = set(threading.enumerate()), set(open_files())
    yield place
    wait_until(lambda: set(threading.enumerate()) <= threads)
    assert set(open_files()) <= files  # what tests before have left may be closed meanwhile
    assert not (tmp_path / "socket").exists()
    assert presence.find(place, tmp_path / "premblyd.yaml") is None


@pytest.mark.parametrize("step", STEPS)
def test_a_start_that_fails_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leaving_nothing: DatabaseAddress, step: str
) -> None:
    daemon = configured(tmp_path, leaving_nothing)
    monkeypatch.setattr(f"{composition.__name__}.{step}", fail)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(daemon.__aenter__())


def test_a_stop_leaves_nothing_open(tmp_path: Path, leaving_nothing: DatabaseAddress) -> None:
    async def run() -> None:
        async with configured(tmp_path, leaving_nothing):
            assert presence.find(leaving_nothing, tmp_path / "premblyd.yaml")

    asyncio.run(run())


def test_a_reload_whose_runner_cannot_be_made_changes_nothing(
    tmp_path: Path, place: DatabaseAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> tuple[object, object]:
        daemon = configured(tmp_path, place)
        async with daemon:
            before = daemon._settings
            action = "{name: crm, response_codes: ['00'], http: {url: https://crm.example}}"
            with daemon._path.open("a") as file:
                file.write(f"actions: [{action}]\n")
            with pytest.raises(ZeroDivisionError):
                await daemon.reload(daemon.read())
            return before, daemon._settings

    monkeypatch.setattr(HttpRunner, "__init__", fail)
    before, after = asyncio.run(run())
    assert after is before


def test_a_stop_that_is_cut_short_interrupts_hooks_before_it_waits_for_them(
    tmp_path: Path, place: DatabaseAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def noted(name: str) -> Callable[[Runners], None]:
        act: Callable[[Runners], None] = getattr(Runners, name)

        def note(runners: Runners) -> None:
            done.append(name)
            act(runners)

        return note

    async def run() -> None:
        async with configured(tmp_path, place):
            await asyncio.sleep(0)

    for name in ("interrupt", "close"):
        monkeypatch.setattr(Runners, name, noted(name))
    monkeypatch.setattr(composition.Daemon, "_end_work", fail)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(run())
    assert done == ["interrupt", "close"]


def test_what_a_daemon_ran_whose_row_is_gone_runs_again_by_the_next(store: Store) -> None:
    store.add("crm")
    assert claim(store, crm=1).jobs
    following = Hosts(store.writer, Identity.of_this_process("next"))
    assert store.wait(following.join(NOW_MS)) == [1]
    assert store.rows("SELECT state FROM delivery") == [("pending",)]


async def start_and_stop(daemon: Daemon) -> None:
    async with daemon:
        pass


async def stop_beside_many(daemon: Daemon) -> list[bytes]:
    """Stop a daemon for which so many clients wait in the kernel's queue that it can't accept them
    in one round of its loop. Return what each got; raise ConnectionResetError for one that was
    reset."""
    async with daemon:
        clients = [connected(daemon.address) for _ in range(160)]
        for number, client in enumerate(clients[::2]):
            body = b'{"reference": "r-%d"}' % number
            client.sendall(webhook(body, signed(body, "a-key")))
        for client in clients[1::2]:  # for a request of theirs it would be waited
            client.shutdown(socket.SHUT_WR)
    return [received(client) for client in clients]


def received(client: socket.socket) -> bytes:
    with client:
        return client.recv(1000)


def connected(address: str) -> socket.socket:
    if address.startswith("unix:"):
        client = socket.socket(socket.AF_UNIX)
        client.connect(address.removeprefix("unix:"))
        return client
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)))


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "unix:{folder}/socket"])
def test_a_stop_answers_who_waits_to_be_accepted(
    tmp_path: Path, place: DatabaseAddress, listen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("premblyd.receive.listening.WAITING_S", 3600)  # a busy machine is slow
    monkeypatch.setattr(exchange, "FIRST_REQUEST_S", 3600)
    answers = asyncio.run(stop_beside_many(configured(tmp_path, place, listen)))
    assert [answer[:12] for answer in answers] == [b"HTTP/1.1 200", b""] * 80
    assert rows(place, "SELECT count(*) FROM event") == [(80,)]


@for_each("host", ["127.0.0.1", "::1"])
def test_who_connects_while_the_last_are_accepted_is_neither_accepted_nor_reset(host: str) -> None:
    """Its SYN is dropped, and is sent again a second later, perhaps to the next daemon."""
    try:
        [listening] = (last := listen_at(Listen(host=host, port=0))).sockets
    except PremblydError:
        pytest.skip(f"this machine has no {host}")
    address = listening.getsockname()
    early = socket.create_connection(address[:2])
    listening.accept()[0].close()
    asyncio.run(last.accept_last())
    with early, listening, socket.socket(listening.family) as late:
        late.setblocking(False)
        assert late.connect_ex(address) == errno.EINPROGRESS
        assert early.recv(1) == b"", "what is accepted goes on"
        # Another test of this machine may have connected before, to a port that it had.
        with contextlib.suppress(BlockingIOError):
            while True:
                client, peer = listening.accept()
                client.close()
                assert peer != late.getsockname()


def test_who_is_half_connected_at_a_stop_is_heard(tmp_path: Path, place: DatabaseAddress) -> None:
    """The kernel makes a connection of it only then."""

    async def send_late() -> bytes:
        async with configured(tmp_path, place, "127.0.0.1:0") as daemon:
            [listening] = daemon._listening.sockets
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 30)
            with connected(daemon.address) as client:  # to the kernel only once it sends something
                daemon._receiver.ask_to_close()
                await daemon._listening.accept_last()
                body = b'{"reference": "r"}'
                sent = webhook(body, signed(body, "a-key"))
                client.sendall(sent[:10])
                while not daemon._receiver.connections:
                    await asyncio.sleep(0.01)
                client.sendall(sent[10:])
                client.setblocking(False)
                return await asyncio.get_running_loop().sock_recv(client, 1000)

    assert asyncio.run(send_late()).startswith(b"HTTP/1.1 200")


def test_a_loop_that_ends_by_itself_is_noticed() -> None:
    async def run() -> None:
        async with Loops() as loops:
            loops.start("short", asyncio.sleep(0))
            await asyncio.Event().wait()

    with pytest.raises(PremblydError, match="A part of the daemon failed"):
        asyncio.run(run())
