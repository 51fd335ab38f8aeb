"""premblyd serve"""

import asyncio
import os
import signal
from pathlib import Path

import click

from premblyd.cli import config_option
from premblyd.ground.errors import ConfigError, PremblydError
from premblyd.ground.system import hide_this_process


@click.command()
@config_option
def serve(config_path: Path) -> None:
    """SIGHUP reads the configuration again. SIGTERM and SIGINT stop the daemon when the running
    hooks have finished."""
    # Let a SIGHUP wait in the kernel until `process.serve` can reload: the file may have changed
    # since it was read. Before the imports, which take most of the start.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM):  # logrotate's recipes send them
        signal.signal(number, signal.SIG_IGN)
    hide_this_process()
    from premblyd.config.load import load_config
    from premblyd.ground import logs
    from premblyd.ground.telemetry import tell

    logs.configure("auto", "info")  # until the configuration is known
    logs.report_the_unexpected(logs.write)
    try:
        try:
            settings = load_config(config_path)
        except ConfigError as error:
            tell(
                "daemon.not_started",
                reason="the configuration can't be used",
                problems=len(error.problems),
                exit_code=error.exit_code,
            )
            raise
        log = settings.log
        logs.configure(log.format, log.level, references=settings.logs_references)
        os.umask(0o027)  # files for the owner and the auditors' group alone
        from premblyd import process

        asyncio.run(process.serve(settings, config_path))
    except PremblydError as error:
        if not logs.write_text(f"{error}"):
            raise
        raise SystemExit(error.exit_code) from None
