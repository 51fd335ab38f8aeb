"""The owner of the process: its signals, its limits, its children and its messages to systemd."""

import asyncio
import contextlib
import ctypes
import gc
import resource
import signal
import socket
from pathlib import Path
from types import FrameType
from typing import Self

from premblyd.config.models import Config
from premblyd.daemon import Daemon
from premblyd.ground import logs
from premblyd.ground.errors import ConfigError, PremblydError
from premblyd.ground.system import ServiceManager, watchdog_interval_s
from premblyd.ground.telemetry import tell
from premblyd.run.strays import Strays

# Of glibc's malloc: what sets how many arenas there may be, and how many we let it have.
M_ARENA_MAX, ARENAS = -8, 2


RELOAD = signal.SIGHUP
STOP = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """What signals ask for, on the loop of the main thread. Entered for as long as they count. None
    of them is lost, however many come.

    asyncio passes a signal on as a byte in a pipe, which may be full. Python itself keeps one note
    for each kind of signal, so the handlers here are Python's own. They are a method of a dict,
    which is written in C: a function in Python is interrupted by the handler of the next signal,
    that one by the next, and so on, until Python raises RecursionError in one of them, which may be
    that of a stop.
    """

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.reload = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._came: dict[int, FrameType | None] = {}  # the numbers of signals, until they are taken
        self._waking, self._wakes = socket.socketpair()

    def __enter__(self) -> Self:
        for end in (self._waking, self._wakes):
            end.setblocking(False)
        self._loop.add_reader(self._waking, self._wake)
        # Only wakes the loop. Full, it wakes as well.
        signal.set_wakeup_fd(self._wakes.fileno(), warn_on_full_buffer=False)
        for number in STOP:
            signal.signal(number, self._came.setdefault)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(RELOAD, signal.SIG_IGN)  # by which Python, at its end, would be ended
        signal.set_wakeup_fd(-1)
        self._loop.remove_reader(self._waking)
        self._waking.close()
        self._wakes.close()

    def take_reloads(self) -> None:
        """Take what asks for a reload from now on, and what has asked for one since the start."""
        signal.signal(RELOAD, self._came.setdefault)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {RELOAD})

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._waking.recv(4096)
        self._take()  # by a call: before one, Python runs the handlers of what woke this

    def _take(self) -> None:
        while self._came:
            number, _ = self._came.popitem()
            (self.reload if number == RELOAD else self.stop).set()


async def serve(settings: Config, path: Path) -> None:
    """Run the daemon until SIGTERM or SIGINT. SIGHUP reads the file at `path` again; the caller has
    blocked it since before it read the file.

    Raise PremblydError when it can't start, or when one of its loops fails.
    """
    _raise_file_limit()
    _keep_arenas_few()
    daemon = Daemon(settings, path)
    strays = Strays(daemon.children)
    async with contextlib.AsyncExitStack() as opened:
        asked = opened.enter_context(Signals())
        manager = opened.enter_context(contextlib.closing(ServiceManager()))
        opened.callback(strays.sweep_all)
        await _start(daemon, opened)
        opened.callback(manager.notify, "STOPPING=1")
        daemon.loops.start("sweep", strays.keep_sweeping())
        if interval_s := watchdog_interval_s():
            daemon.loops.start("watchdog", _feed_watchdog(daemon, manager, interval_s))
        _collect_garbage_rarely()
        manager.notify("READY=1")
        daemon.loops.start("reload", _reload_when_asked(asked, daemon, manager))
        asked.take_reloads()
        await asked.stop.wait()


async def _start(daemon: Daemon, opened: contextlib.AsyncExitStack) -> None:
    """Start `daemon`; `opened` stops it. What ends the start is in the log too, in its format."""
    try:
        await opened.enter_async_context(daemon)
    except PremblydError as error:
        tell("daemon.not_started", reason=str(error), exit_code=error.exit_code)
        raise
    except Exception as error:  # the process ends with it; the log's reader must learn why
        tell("daemon.not_started", cause=error, exit_code=1)
        raise


async def _reload_when_asked(asked: Signals, daemon: Daemon, manager: ServiceManager) -> None:
    """Reload whenever that is asked for. While one is under way, one more is remembered. None
    begins after a stop."""
    while True:
        await asked.reload.wait()
        asked.reload.clear()
        if not asked.stop.is_set():
            await _reload(asked, daemon, manager)


async def _reload(asked: Signals, daemon: Daemon, manager: ServiceManager) -> None:
    manager.notify_reloading()
    status = ""
    try:
        made = await asyncio.to_thread(daemon.read)
        log = made.settings.log
        logs.configure(log.format, log.level, references=made.settings.logs_references)
        await daemon.reload(made)
    except ConfigError as error:
        for problem in error.problems:
            tell("config.problem", problem=str(problem))
        tell("config.reload_refused", problems=len(error.problems))
        status = "The new configuration was refused; the old one is used"
    except Exception as error:  # noqa: BLE001  # no thread for it, a fault of ours: it goes on
        asyncio.get_running_loop().call_exception_handler({"exception": error})
    if not asked.stop.is_set():
        manager.notify("READY=1", f"STATUS={status}")


async def _feed_watchdog(daemon: Daemon, manager: ServiceManager, interval_s: float) -> None:
    while True:
        await asyncio.sleep(interval_s)
        if daemon.is_alive():
            manager.notify("WATCHDOG=1")


def _collect_garbage_rarely() -> None:
    """Look for cycles of objects rarely: what start-up made stays, and a request leaves none. By
    default Python looks at every 700 objects, which takes up to a tenth of the processor time."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _raise_file_limit() -> None:
    """Allow as many open files as may be: each connection and hook needs some."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _keep_arenas_few() -> None:
    """Let all threads have their memory from few arenas. By default glibc gives each its own, up to
    eight for each processor, and each keeps what was most in it: pages and metrics, which any of
    six threads may make, took 10 MiB more as soon as all six had."""
    with contextlib.suppress(AttributeError):  # another C library, which has none
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, ARENAS)
