"""The fixtures of several test modules, and what a session of pytest does differently here."""

import asyncio
import contextlib
import functools
import gc
import inspect
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop

from premblyd.feature import installed
from premblyd.ground.databases import DatabaseAddress
from premblyd.receive import exchange, server
from premblyd.receive.server import make_server
from premblyd.run import process
from premblyd.store.connections import connect_read_only
from premblyd.store.engine import Database
from premblyd.store.sqlite import opening
from tests.support import database, forking, postgresql
from tests.support.commands import record
from tests.support.daemon import Premblyd
from tests.support.engines import empty_server, hosts
from tests.support.logs import Lines, log_plainly, logged
from tests.support.marks import GUARD, leaves_out, leaves_out_module
from tests.support.needs import NO_HISTORY, NO_ROOT, REQUIRE_ALL, allow_open_files, needs_machine
from tests.support.receiving import Client, Reception
from tests.support.store import Store, store_at
from tests.support.waiting import FOREVER_S

if "keeping" in installed():  # the core's tests do without
    from premblyd.features.keeping import vacuuming

__all__ = ["empty_server", "hosts"]
SKIPPED = "PREMBLYD_SKIPPED"  # names a file, for .ci/run: what is skipped is tried elsewhere
MEMORY, ROOM_BYTES = "/dev/shm", 2 << 30
TAKE_LONGEST = {"test_strays", "test_serve", "test_systemd_protocol", "test_cli_reconcile"}
TAKE_LONGEST |= {"test_shell", "test_package", "test_sim"}
# They build, boot or do harm for minutes by themselves: what ends all else that hangs, after the
# `timeout` in setup.cfg, ends them later.
TAKES_MINUTES, TAKES_MINUTES_TIMEOUT_S = ("machine", "release", "campaign"), 3600
HAVE_PROCESSES = {*TAKES_MINUTES, "process", "large", "browser", "postgresql"}
# What an example takes is the machine's, so there is no deadline. The examples are the same each
# time: a suite says of a change what it said before. `explore` has ever new ones, and more.
UNHURRIED: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("premblyd", max_examples=50, derandomize=True, **UNHURRIED)
settings.register_profile("explore", max_examples=1000, **UNHURRIED)
settings.load_profile("premblyd")


def _run_apart(config: pytest.Config) -> None:
    """Give daemons a folder for what they say of themselves, as those that are killed leave it."""
    os.environ["XDG_RUNTIME_DIR"] = folder = tempfile.mkdtemp(prefix="premblyd-running-")
    config.add_cleanup(functools.partial(shutil.rmtree, folder, ignore_errors=True))


def pytest_configure(config: pytest.Config) -> None:
    """Give every session the same start, however it is run, and what it starts the same too."""
    if sys.dont_write_bytecode:
        _keep_bytecode(config.rootpath / ".pytest_cache" / "bytecode")
    if leaves_out(config, "large"):
        _work_in_memory()
    database.choose_engine(config.getoption("engine"))
    if "keeping" in installed():
        # On a busy machine half a second may be too short; nothing comes meanwhile.
        vacuuming.LIMIT_S, vacuuming.GAP_S = FOREVER_S, 0
    if not hasattr(config, "workerinput"):  # not in xdist's workers, which share one server
        _run_apart(config)
        postgresql.prepare_session()
        config.add_cleanup(postgresql.end_session)
    # Tornado's would otherwise have asyncio make a loop that nobody closes.
    asyncio.set_event_loop(None)
    # A shell has what it runs in the background ignore these, and that goes down to a hook.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    allow_open_files()
    log_plainly()
    # Tornado's own is 20 seconds. (That of the test's coroutine is in setup.cfg: none.)
    AsyncHTTPClient.configure(None, defaults={"connect_timeout": 0, "request_timeout": 0})
    if config.getoption("numprocesses", None):  # only in the process that has xdist's workers
        forking.share_server(Path(os.environ[postgresql.FOLDER]))


def _keep_bytecode(folder: Path) -> None:
    """Keep what is compiled, though not beside the sources: each of the suite's four hundred
    processes would else compile premblyd anew, and each worker all tests. That takes 25 s."""
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix = str(folder)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False


def _work_in_memory() -> None:
    """Have the tests' folders in memory where it has room: they commit so often that a disk takes
    a third of the suite's time, and a seventh of its processor's."""
    with contextlib.suppress(OSError):
        there = os.statvfs(MEMORY)
        if there.f_bavail * there.f_frsize > ROOM_BYTES and not there.f_flag & os.ST_NOEXEC:
            os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", MEMORY)


def pytest_xdist_auto_num_workers() -> int:
    """Have the cores at work while tests wait on others."""
    return len(os.sched_getaffinity(0)) + 2


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make a skip a failure where everything is required, save of what nobody can install."""
    report = yield
    if report.skipped and SKIPPED in os.environ:
        with open(os.environ[SKIPPED], "a", encoding="utf-8") as skipped:
            skipped.write(f"{item.nodeid}\n")
    can_be_had = not any(reason in str(report.longrepr) for reason in (NO_ROOT, NO_HISTORY))
    if REQUIRE_ALL and report.skipped and can_be_had:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: skipped although all is required: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None]:
    """Skip a test whose fixtures need what this machine has not."""
    with needs_machine():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None]:
    """Skip a test that needs what this machine has not."""
    with needs_machine():
        return (yield)


@pytest.fixture(autouse=True)
def refuse_processes(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that starts a process and has no mark for that."""

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("it starts a process: mark it so (CONTRIBUTING.md), or do without")

    has_mark = any(map(request.node.get_closest_marker, HAVE_PROCESSES))
    if not has_mark and not database.is_on_postgresql():
        for owner in (forking.Forked, subprocess.Popen):
            GUARD.setattr(owner, "__init__", refuse)
        GUARD.setattr(process, "_strings", refuse)
    yield
    GUARD.undo()


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Nothing looks for cycles, as it rarely does in the daemon, and `gc` lists what is new."""
    gc.freeze()
    gc.disable()
    yield
    gc.enable()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--engine",
        choices=database.ENGINES,
        default=database.ENGINES[0],
        help="Which database the tests use. Those that are about SQLite alone are left out.",
    )


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Let nobody look for garbage among what is read now: it stays, all of a million objects."""
    gc.disable()
    try:
        if hasattr(session.config, "workerinput"):
            _read_share(session)
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def _read_share(session: pytest.Session) -> None:
    """Read a part of the modules first, each of xdist's workers another one: so each module is
    compiled once. In a new checkout each worker would else compile all of them."""
    worker = session.config.workerinput  # type: ignore[attr-defined]
    folders = map(Path, session.config.args)  # what is no folder has none
    modules = sorted(module for folder in folders for module in folder.rglob("test_*.py"))
    for path in modules[int(worker["workerid"].removeprefix("gw")) :: worker["workercount"]]:
        if not leaves_out_module(session.config, path):
            module = pytest.Module.from_parent(session, path=path)
            with contextlib.suppress(Exception):  # it fails again when collected
                assert module.obj


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Don't read a module that is left out as a whole: each of xdist's workers would."""
    return leaves_out_module(config, collection_path) or None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run tests that are coroutines: on Tornado's loop where fixtures have it, else on their own.
    Begin with the modules that take longest, else one of them runs on when all others are done.
    With --engine postgresql, leave out what is about SQLite: marked so, or by a fixture."""
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            if "io_loop" in item.fixturenames:
                item.add_marker("gen_test")
            else:
                item.obj = _on_a_loop(item.obj)
        if any(map(item.get_closest_marker, TAKES_MINUTES)):
            item.add_marker(pytest.mark.timeout(TAKES_MINUTES_TIMEOUT_S))
    items.sort(key=lambda item: item.path.stem not in TAKE_LONGEST)
    if not database.is_on_postgresql():
        return
    of_sqlite = [item for item in items if _is_of_sqlite(item)]
    config.hook.pytest_deselected(items=of_sqlite)
    items[:] = [item for item in items if item not in of_sqlite]


def _on_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        asyncio.run(test(**fixtures))

    return run


def _is_of_sqlite(item: pytest.Item) -> bool:
    used: set[str] = set(getattr(item, "fixturenames", ()))
    return item.get_closest_marker("sqlite") is not None or bool(used & {"path", "prepared"})


@pytest.fixture(scope="session")
def prepared() -> Path:
    return database.prepared_file()


@pytest.fixture
def path(tmp_path: Path, prepared: Path) -> Path:
    """A prepared SQLite database that nobody has open: for tests that are about SQLite."""
    return Path(shutil.copy(prepared, tmp_path))


@pytest.fixture
def place(tmp_path: Path) -> DatabaseAddress:
    """A prepared database that nobody has open, of the session's engine."""
    return database.new_place(tmp_path)


@pytest.fixture
def store(place: DatabaseAddress) -> Iterator[Store]:
    with store_at(place) as store:
        yield store


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A stopped daemon's configuration, beside its record."""
    return record(tmp_path)


@pytest.fixture(name="daemon")
def make_daemon(tmp_path: Path) -> Iterator[Premblyd]:
    """A daemon that is not started, with a configuration and a record of its own."""
    with Premblyd(tmp_path) as daemon:
        yield daemon


@pytest.fixture(name="database")
def read_database(store: Store) -> Iterator[Database]:
    """The store's database, as others read it."""
    with closing(connect_read_only(store.place)) as database:
        yield database


@pytest.fixture(name="record")
def read_record(store: Store, database: Database) -> Database:
    """A record with an event and its delivery, as others read it."""
    store.add("crm")
    return database


@pytest.fixture
def lines() -> Iterator[Lines]:
    """What is logged, instead of printing it."""
    with logged() as lines:
        yield lines


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What a thread waits for."""
    gate = threading.Event()
    yield gate
    gate.set()


@pytest.fixture(name="reception")
def make_reception(
    io_loop: IOLoop, place: DatabaseAddress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Reception]:
    monkeypatch.setattr(opening, "BUSY_TIMEOUT_S", 0.2)
    postgresql.wait_for_locks(monkeypatch, "200ms")
    monkeypatch.setattr(exchange, "LINGER_S", 0.3)
    monkeypatch.setattr(server, "PATIENCE_S", 40)  # on a busy machine the health is no worse
    reception = Reception(place, tmp_path)
    io_loop.run_sync(reception.open)
    yield reception
    assert reception.in_flight == (0, 0), "something is held for ever"
    io_loop.run_sync(reception.close)


@pytest.fixture(name="http_server")
def serve(
    reception: Reception, io_loop: IOLoop, _unused_port: tuple[socket.socket, int]
) -> Iterator[HTTPServer]:
    """Stand for pytest-tornado's own, which bounds bodies itself."""
    server = make_server(reception.receiver)
    server.add_socket(_unused_port[0])
    yield server
    server.stop()
    io_loop.run_sync(server.close_all_connections)


@pytest.fixture
def client(http_server: HTTPServer, http_port: int, io_loop: IOLoop) -> Iterator[Client]:
    """A client that has connected to the receiver."""
    client = io_loop.run_sync(lambda: Client.to(http_port))
    yield client
    io_loop.run_sync(client.close)
