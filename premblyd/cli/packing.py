"""premblyd prune --vacuum: the database's file written anew, without what was deleted."""

import os
import sys
from dataclasses import asdict
from pathlib import Path

import click

from premblyd.cli.printing import print_json
from premblyd.cli.restore import become_owner
from premblyd.databases import DatabaseAddress
from premblyd.engines.connections import backend
from premblyd.errors import PremblydError


def pack(database: DatabaseAddress, *, yes: bool, as_json: bool) -> None:
    """Pack the database, and print what that did. Raise PremblydError when it can't be packed."""
    packed = backend(database)
    room = packed.room()
    needed, free = _megabytes(room.needed_bytes), _megabytes(room.free_bytes)
    if room.needed_bytes > room.free_bytes:
        raise PremblydError(
            f"Packing {database} needs {needed} of its disk, and {free} are free. Make room, or"
            " move it to a larger disk."
        )
    if not as_json:
        click.echo(f"Packing needs {needed} of the disk for a while; {free} are free.", err=True)
    if not yes and sys.stdin.isatty():
        click.confirm(f"Write {database} anew?", abort=True, err=True)
    if isinstance(database, Path):
        become_owner(Path(os.path.realpath(database)))
    done = packed.pack()
    if as_json:
        print_json(asdict(done))
        return
    before, after = _megabytes(done.before_bytes), _megabytes(done.after_bytes)
    click.echo(
        f"Packed {database}: {before} before, {after} now. Nothing is left in it of what was"
        " deleted; from now on the daemon gives space back."
    )


def _megabytes(count: int) -> str:
    return f"{count / 1_000_000:,.1f} MB"
