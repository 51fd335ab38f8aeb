"""premblyd serve"""

import asyncio
import os
from pathlib import Path

import click

from premblyd.cli.common import config_option


@click.command()
@config_option
def serve(config_path: Path) -> None:
    """SIGHUP reads the configuration again, SIGTERM and SIGINT stop after what runs has ended."""
    from premblyd import config, daemon, logs

    settings = config.load(config_path)
    logs.configure(settings.log.format, settings.log.level)
    os.umask(0o027)  # files for the owner and the auditors' group alone
    asyncio.run(daemon.serve(settings, config_path))
