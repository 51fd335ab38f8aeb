"""The owner of the process: its signals, its limits, its children and what systemd hears."""

import asyncio
import gc
import resource
import signal
from pathlib import Path

from premblyd import logs, systemd
from premblyd.config.load import load_config
from premblyd.config.models import Config
from premblyd.daemon import Daemon
from premblyd.errors import ConfigError, PremblydError
from premblyd.hooks.strays import Strays

STATUS_EVERY_S = 5.0
log = logs.get_logger()


async def serve(settings: Config, path: Path) -> None:
    """Run the daemon until SIGTERM or SIGINT, as the owner of this process: of its signals, its
    limits and its children. SIGHUP reads the file at `path` again.

    Raise PremblydError when it can't start, or when its dispatcher fails.
    """
    _raise_file_limit()
    strays = Strays()
    daemon = Daemon(settings, path)
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    reload_asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, reload_asked.set)
    await _start(daemon)
    loop.add_signal_handler(signal.SIGHUP, _reload, daemon, path)
    # What start-up made stays, and a request leaves no cycles: looking for them every 700 objects
    # costs up to a tenth of the processor time.
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    systemd.notify("READY=1", f"STATUS={daemon.status()}")
    if reload_asked.is_set():  # while it started: the file may have changed since it was read
        _reload(daemon, path)
    tasks = {
        asyncio.create_task(stopping.wait()),
        asyncio.create_task(_report(daemon)),
        asyncio.create_task(_feed_watchdog(daemon)),
        asyncio.create_task(daemon.sweep(strays)),
        daemon.dispatching,
        daemon.timing_out,
    }
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    systemd.notify("STOPPING=1")
    failed = [error for task in done if (error := task.exception())]
    for task in tasks - {daemon.dispatching, daemon.timing_out}:
        task.cancel()
    if failed:
        log.critical("daemon.failed", exc_info=failed[0])
        raise PremblydError("A part of the daemon failed; the log says which.")
    await daemon.stop()
    strays.sweep_all()


async def _start(daemon: Daemon) -> None:
    """Start `daemon`. Whatever ends that is in the log too, in its format."""
    try:
        await daemon.start()
    except PremblydError as error:
        log.critical("daemon.not_started", reason=str(error), exit_code=error.exit_code)
        raise
    except Exception:  # the process ends with it; the log's reader must learn why
        log.critical("daemon.not_started", exc_info=True, exit_code=1)
        raise


def _reload(daemon: Daemon, path: Path) -> None:
    systemd.reloading()
    try:
        settings = load_config(path)
    except ConfigError as error:
        for problem in error.problems:
            log.error("config.problem", problem=str(problem))
        log.error("config.reload_refused", problems=len(error.problems))
        systemd.notify("READY=1", "STATUS=The new configuration was refused; the old one is used")
        return
    logs.configure(settings.log.format, settings.log.level)
    daemon.reload(settings)
    systemd.notify("READY=1", f"STATUS={daemon.status()}")


async def _report(daemon: Daemon) -> None:
    while True:
        await asyncio.sleep(STATUS_EVERY_S)
        systemd.notify(f"STATUS={daemon.status()}")


async def _feed_watchdog(daemon: Daemon) -> None:
    interval_s = systemd.watchdog_interval_s()
    while True:
        await asyncio.sleep(interval_s or 3600)
        if interval_s and daemon.is_alive():
            systemd.notify("WATCHDOG=1")


def _raise_file_limit() -> None:
    """Allow as many open files as may be: each connection and hook needs some."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
