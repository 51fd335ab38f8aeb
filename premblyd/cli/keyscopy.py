"""The keys' copy, which every command renews that destroys a key."""

from pathlib import Path

import click

from premblyd.backup import keys
from premblyd.cli import caller
from premblyd.cli.common import settings_if_valid
from premblyd.engines.engine import Database
from premblyd.errors import PremblydError
from premblyd.keep import keycopies
from premblyd.seal.starting import data_keys

FAILED = (
    "The keys' copy has still what opens copies of before: {} A daemon tries again; so does"
    " `premblyd backup`, and this command."
)


def is_due(config_path: Path, record: Database) -> bool:
    """Return whether somebody was erased since the keys' copy was made, if there is to be one."""
    settings = settings_if_valid(config_path)
    if settings is None or keys.folder_of(settings) is None:
        return False
    return record.look(keycopies.is_due)


def renewed(config_path: Path, database: Database) -> bool | None:
    """Have nothing in the keys' copy of what is gone, and say what is in the way; return whether it
    is so. None: there is no such copy to be kept."""
    settings = settings_if_valid(config_path)
    try:
        if settings is not None:
            return None if keys.keep_up(settings, database, caller.actor()) is None else True
        if not database.look(data_keys):
            return None
        problem = f"{config_path} has mistakes, so nobody knows where it is."
    except PremblydError as error:
        problem = str(error)
    click.echo(caller.as_called(FAILED.format(problem)), err=True)
    return False
