"""The owner of the process: its signals, its limits, its children and its messages to systemd."""

import asyncio
import contextlib
import functools
import gc
import resource
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from premblyd import signals
from premblyd.config.load import load_config
from premblyd.config.models import Config
from premblyd.daemon import Daemon
from premblyd.errors import ConfigError, PremblydError, without_frames
from premblyd.hooks.strays import Strays
from premblyd.logs import output
from premblyd.occurrences import ConfigProblem, DaemonNotStarted, ReloadRefused
from premblyd.systemd import ServiceManager, watchdog_interval_s
from premblyd.telemetry import tell

STATUS_EVERY_S = 5.0
T = TypeVar("T")


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
        daemon.loops.start("sweep", daemon.sweep(strays))
        daemon.loops.start("status", _report(daemon, manager))
        if interval_s := watchdog_interval_s():
            daemon.loops.start("watchdog", _feed_watchdog(daemon, manager, interval_s))
        _collect_garbage_rarely()
        manager.notify("READY=1", f"STATUS={daemon.status()}")
        daemon.loops.start("reload", _reload_when_asked(asked, daemon, path, manager))
        asked.take_reloads()
        await asked.stop.wait()


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


async def _reload_when_asked(
    asked: signals.Signals, daemon: Daemon, path: Path, manager: ServiceManager
) -> None:
    """Reload whenever that is asked for. While one is under way, one more is remembered."""
    while True:
        await asked.reload.wait()
        asked.reload.clear()
        manager.notify_reloading()
        loaded = await _beside(functools.partial(_load, path))
        if not asked.stop.is_set():
            manager.notify("READY=1", f"STATUS={_use(loaded, daemon)}")


def _load(path: Path) -> Config | Exception:
    try:
        return load_config(path)
    except Exception as error:  # noqa: BLE001  # it must not end the daemon
        return without_frames(error)


async def _beside(work: Callable[[], T]) -> T:
    """Run `work`, which never raises, while the loop goes on. Nothing waits for its thread: a stop
    does not."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T) -> None:
        if not done.cancelled():
            done.set_result(result)

    def run() -> None:
        result = work()
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, result)

    try:
        threading.Thread(target=run, name="premblyd-reload", daemon=True).start()
    except RuntimeError:  # there is no thread left: then the loop waits for once
        run()
    return await done


def _use(loaded: Config | Exception, daemon: Daemon) -> str:
    """Use what was loaded, if it can be used. Return one line for `systemctl status`."""
    if isinstance(loaded, ConfigError):
        for problem in loaded.problems:
            tell(ConfigProblem(problem=str(problem)))
        tell(ReloadRefused(problems=len(loaded.problems)))
        return "The new configuration was refused; the old one is used"
    try:
        if isinstance(loaded, Exception):
            raise loaded
        output.configure(loaded.log.format, loaded.log.level)
        daemon.reload(loaded)
    except Exception as error:  # noqa: BLE001  # a fault of ours, which must not end the daemon
        asyncio.get_running_loop().call_exception_handler({"exception": error})
    return daemon.status()


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
