"""premblyd record vacuum: writes the database anew, without bytes of erased data."""

from pathlib import Path

import click

from premblyd.cli import config_option, json_option
from premblyd.cli.common import database_of, open_to_change
from premblyd.cli.printing import print_told
from premblyd.features.keeping import vacuuming
from premblyd.ground.words import size
from premblyd.store.connections import backend


@click.command()
@config_option
@json_option
def vacuum(config_path: Path, *, as_json: bool) -> None:
    """Bytes of what was deleted may remain in the database's file. This writes it anew without
    them, and gives their space back to the disk.

    On SQLite the daemon must be stopped, and the disk must have twice the file's size free. On
    PostgreSQL this is VACUUM of the tables, while daemons run.

    Exit status 75: a daemon runs, or somebody reads the database.
    """
    place = database_of(config_path)
    its = backend(place)
    its.connect_operator().close()  # it says what is wrong
    with its.hold():  # before SQLite has the file open: this closes it, which ends all locks
        database = open_to_change(place)
        before = its.sizes()
        needed = size(vacuuming.require_room(before))
        if before.free_bytes is not None:
            free = size(before.free_bytes)
            click.echo(f"This takes {needed} of disk for a while; {free} are free.", err=True)
        vacuuming.vacuum(place, database)
        count = vacuuming.bytes_of(its.sizes())
    freed = max(vacuuming.bytes_of(before) - count, 0)
    words = f"Done: the database has {size(count)}, and {size(freed)} were freed."
    print_told({"database_bytes": count, "freed_bytes": freed}, words, as_json=as_json)
