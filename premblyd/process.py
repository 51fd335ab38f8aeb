"""The owner of the process: its signals, its limits, its children and its messages to systemd."""

import asyncio
import contextlib
import gc
import resource
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from premblyd import signals
from premblyd.config.models import Config
from premblyd.daemon import SWITCH_S, Daemon
from premblyd.errors import ConfigError, PremblydError
from premblyd.logs import output
from premblyd.run.strays import Strays
from premblyd.systemd import ServiceManager, watchdog_interval_s
from premblyd.telemetry import tell

T = TypeVar("T")
STATUS_EVERY_S = 5.0


async def serve(settings: Config, path: Path) -> None:
    """Run the daemon until SIGTERM or SIGINT. SIGHUP reads the file at `path` again; the caller has
    blocked signals.HELD since before it read the file.

    Raise PremblydError when it can't start, or when one of its loops fails.
    """
    _raise_file_limit()
    daemon = Daemon(settings, path)
    strays = Strays(daemon.children)
    async with contextlib.AsyncExitStack() as opened:
        asked = opened.enter_context(signals.Signals())
        manager = opened.enter_context(contextlib.closing(ServiceManager()))
        opened.callback(strays.sweep_all)
        await _start(daemon, opened)
        opened.callback(manager.notify, "STOPPING=1")
        daemon.loops.start("sweep", strays.keep_sweeping())
        daemon.loops.start("status", _report(daemon, manager))
        if interval_s := watchdog_interval_s():
            daemon.loops.start("watchdog", _feed_watchdog(daemon, manager, interval_s))
        _collect_garbage_rarely()
        manager.notify("READY=1", f"STATUS={daemon.status()}")
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


async def _reload_when_asked(
    asked: signals.Signals, daemon: Daemon, manager: ServiceManager
) -> None:
    """Reload whenever that is asked for. While one is under way, one more is remembered. None
    begins after a stop."""
    while True:
        await asked.reload.wait()
        asked.reload.clear()
        if not asked.stop.is_set():
            await _reload(asked, daemon, manager)


async def _reload(asked: signals.Signals, daemon: Daemon, manager: ServiceManager) -> None:
    manager.notify_reloading()
    status = None
    try:
        reread = await _beside_the_loop(daemon.read)
        output.configure(reread.settings.log.format, reread.settings.log.level)
        await daemon.reload(reread)
    except ConfigError as error:
        for problem in error.problems:
            tell("config.problem", problem=str(problem))
        tell("config.reload_refused", problems=len(error.problems))
        status = "The new configuration was refused; the old one is used"
    except Exception as error:  # noqa: BLE001  # no thread for it, a fault of ours: it goes on
        asyncio.get_running_loop().call_exception_handler({"exception": error})
    if not asked.stop.is_set():
        manager.notify("READY=1", f"STATUS={status or daemon.status()}")


async def _beside_the_loop(read: Callable[[], T]) -> T:
    """Return what `read` returns, from a thread beside which the loop answers. A stop does not wait
    for it: the file may be a pipe into which nobody writes."""
    done: Future[T] = Future()
    done.set_running_or_notify_cancel()  # who waits may be cancelled from here on, but not it

    def run() -> None:
        try:
            done.set_result(read())
        # Whatever it is, it is raised where it is waited for.
        except Exception as error:  # noqa: BLE001
            done.set_exception(error)

    switch_s = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)  # or the loop would wait for it, at each of its turns
    gc.disable()  # to look for cycles among so many objects takes seconds, in which nothing runs
    try:
        threading.Thread(target=run, name="premblyd-reload", daemon=True).start()
        return await asyncio.wrap_future(done)
    finally:
        sys.setswitchinterval(switch_s)
        gc.freeze()  # what was read stays, as what start-up made
        gc.enable()


async def _report(daemon: Daemon, manager: ServiceManager) -> None:
    while True:
        await asyncio.sleep(STATUS_EVERY_S)
        manager.notify(f"STATUS={daemon.status()}")


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
