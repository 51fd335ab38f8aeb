"""premblyd record backup: a copy of the record, beside a daemon that works."""

import contextlib
import os
import shutil
from pathlib import Path
from typing import Any, BinaryIO

import click

from premblyd.cli import config_option, json_option
from premblyd.cli.common import database_of, open_to_change
from premblyd.cli.printing import print_told, progress, showing
from premblyd.features.backup import copying
from premblyd.features.keeping.erasurelines import write_all
from premblyd.ground.errors import PremblydError, StoreUnavailableError
from premblyd.ground.words import counted, size

STDOUT = "-"


@click.command()
@click.argument("folder", metavar="DIR|-")
@click.option(
    "--keep",
    metavar="N",
    type=click.IntRange(1),
    help="Then delete the oldest copies of this record, but the newest N.",
)
@click.option("--forget", is_flag=True, help="Copy nothing, and expect no copies there any more.")
@config_option
@json_option
def backup(
    config_path: Path, *, folder: str, keep: int | None, forget: bool, as_json: bool
) -> None:
    """DIR must be there, and belong to the user whom the database belongs to. A copy has the
    record's id and the number of its newest event in its name, and has its name only once it is
    whole, checked and on the disk. It is encrypted if the record is.

    `-` writes a copy to standard output, to be piped into another program.

    Exit status 75: DIR is missing, its disk is full, or another backup is writing there.
    """
    place = database_of(config_path)
    source = copying.source_at(place)
    if folder == STDOUT:
        if os.isatty(1) or keep or forget or as_json:
            raise click.UsageError("`-` is for a pipe or a file, and takes no other options.")
        with progress(silent=False) as shown, copying.send(source, showing(shown)) as copy:
            _pass_on(copy)
        return
    record, path = open_to_change(place), os.path.realpath(folder)
    if forget:
        copying.forget(record, path)
        told = f"No copies are expected in {path} any more."
        print_told({"folder": path, "forgotten": True}, told, as_json=as_json)
        return
    at_ms, deleted = record.now_ms(), []
    about: dict[str, Any] = {}
    try:
        with progress(silent=as_json) as shown, copying.opened(Path(path)) as there:
            name, file_bytes = copying.back_up(source, there, showing(shown))
            about = {"file": str(name), "file_bytes": file_bytes, "copied_at_ms": at_ms}
            write_all(record, Path(path))
            if keep is not None:
                deleted = copying.keep_newest(there, name.record_id, keep)
    except PremblydError as error:
        with contextlib.suppress(StoreUnavailableError):  # it may be the database that fails
            copying.note(record, path, at_ms, **about, error=str(error))
        raise
    copying.note(record, path, at_ms, **about, error=None)
    gone = f" Deleted {counted(len(deleted), 'older copy', 'older copies')}." if deleted else ""
    told = f"Copied to {path}/{name}: {size(file_bytes)}.{gone}"
    print_told({"folder": path, **about, "deleted": deleted}, told, as_json=as_json)


def _pass_on(copy: BinaryIO) -> None:
    """Write a copy to standard output. Not by Python's own, which takes a reader that leaves for
    one that has seen enough."""
    try:
        with open(1, "wb", closefd=False) as out:
            shutil.copyfileobj(copy, out)
    except OSError as error:
        raise PremblydError(f"The copy can't be written out: {error.strerror}.") from None
