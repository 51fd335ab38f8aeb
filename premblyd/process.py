"""The owner of the process: its signals, its limits, its children and its messages to systemd."""

import asyncio
import contextlib
import functools
import gc
import resource
import signal
from pathlib import Path

from premblyd.config.load import load_config
from premblyd.config.models import Config
from premblyd.daemon import Daemon
from premblyd.errors import ConfigError, PremblydError
from premblyd.hooks.strays import Strays
from premblyd.logs import output
from premblyd.occurrences import ConfigProblem, DaemonNotStarted, ReloadRefused
from premblyd.systemd import ServiceManager, watchdog_interval_s
from premblyd.telemetry import tell

STATUS_EVERY_S = 5.0


async def serve(settings: Config, path: Path) -> None:
    """Run the daemon until SIGTERM or SIGINT. SIGHUP reads the file at `path` again; the caller has
    blocked it since before it read the file.

    Raise PremblydError when it can't start, or when one of its loops fails.
    """
    _raise_file_limit()
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    daemon = Daemon(settings, path)
    strays = Strays(daemon.children)
    async with contextlib.AsyncExitStack() as opened:
        manager = opened.enter_context(contextlib.closing(ServiceManager()))
        opened.callback(strays.sweep_all)
        await _start(daemon, opened)
        opened.callback(manager.notify, "STOPPING=1")
        daemon.loops.start("sweep", daemon.sweep(strays))
        daemon.loops.start("status", _report(daemon, manager))
        if interval_s := watchdog_interval_s():
            daemon.loops.start("watchdog", _feed_watchdog(daemon, manager, interval_s))
        _collect_garbage_rarely()
        manager.notify("READY=1", f"STATUS={daemon.status()}")
        loop.add_signal_handler(signal.SIGHUP, functools.partial(_reload, daemon, path, manager))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        await stopping.wait()


async def _start(daemon: Daemon, opened: contextlib.AsyncExitStack) -> None:
    """Start `daemon`; `opened` stops it. What ends the start is in the log too, in its format."""
    try:
        await opened.enter_async_context(daemon)
    except PremblydError as error:
        tell(DaemonNotStarted(reason=str(error), exit_code=error.exit_code))
        raise
    except Exception as error:  # the process ends with it; the log's reader must learn why
        tell(DaemonNotStarted(cause=error, exit_code=1))
        raise


def _reload(daemon: Daemon, path: Path, manager: ServiceManager) -> None:
    manager.notify_reloading()
    try:
        settings = load_config(path)
    except ConfigError as error:
        for problem in error.problems:
            tell(ConfigProblem(problem=str(problem)))
        tell(ReloadRefused(problems=len(error.problems)))
        manager.notify("READY=1", "STATUS=The new configuration was refused; the old one is used")
        return
    output.configure(settings.log.format, settings.log.level)
    daemon.reload(settings)
    manager.notify("READY=1", f"STATUS={daemon.status()}")


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
