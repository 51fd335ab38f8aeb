"""premblyd record backup and premblyd record restore"""

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import click

from premblyd.cli import config_option, json_option
from premblyd.cli.caller import actor
from premblyd.cli.common import database_of, open_to_change
from premblyd.cli.printing import print_json, print_sentence, print_told, progress, showing
from premblyd.features.backup import copying, restoring
from premblyd.features.backup.restoring import Taken
from premblyd.features.keeping.erasingagain import AppliedAgain
from premblyd.features.keeping.erasurelines import write_all
from premblyd.ground import times
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


FILE = click.Path(path_type=Path)


@click.command()
@click.argument("copy", metavar="[FILE|DIR]", required=False, type=FILE)
@click.option(
    "--key",
    "key_path",
    type=FILE,
    help="The file with the key of the copy, if the record has another by now.",
)
@click.option("--erased", type=FILE, help="An erased.jsonl, besides those that are found.")
@click.option("--record", type=click.Choice(["new"]), help="Also a copy of another record.")
@click.option("--erase-again", "only_again", is_flag=True, help="Put nothing in: only erase again.")
@click.option("--yes", is_flag=True, help="Don't ask for confirmation.")
@config_option
@json_option
def restore(
    config_path: Path,
    *,
    copy: Path | None,
    key_path: Path | None,
    erased: Path | None,
    record: str | None,
    only_again: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Puts FILE, or the newest copy in DIR, in the place of the database; the daemon must be
    stopped. Who was erased since it was made is erased again: as the database that is replaced, its
    .erased.jsonl and the one beside the copy say. The old file is kept beside the new one.

    A copy is refused if it is damaged, of another record, or of another build of premblyd. Then
    nothing is changed. A restore that was interrupted is run again.

    --erase-again, without a copy: after pg_restore, or when somebody has put a file in by hand.

    Exit status 75: a daemon runs, or another command has the database open.
    """
    place = database_of(config_path)
    if only_again == (copy is not None):
        raise click.UsageError("Name a copy, or the folder of copies; or give --erase-again.")
    if copy is None:
        again = restoring.erase_in_place(place, erased, times.now_ms())
        words = f"Erased again: {_again(again)}."
        print_told({"erased_again": again}, words, as_json=as_json)
        return
    with progress(silent=as_json) as shown:
        taking_in = restoring.taken_in(
            place,
            copy,
            times.now_ms(),
            showing(shown),
            actor=actor(),
            key_path=key_path,
            erased=erased,
            is_any=record == "new",
        )
        taken, put_in = click.get_current_context().with_resource(taking_in)
    for line in () if as_json and yes else _lines(taken):
        click.echo(line, err=as_json)
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("There is no terminal to ask for confirmation: add --yes.")
        click.confirm(f"Put it in the place of {place}?", abort=True, err=True)
    kept = put_in()
    if as_json:
        print_json({**asdict(taken), "kept": kept and str(kept)})
        return
    old = f" The old file is kept: {kept}" if kept else ""
    print_sentence(f"{place} has the record of that copy now.{old}")
    since = f"premblyd reconcile --since {times.iso(taken.newest_ms)} --store"
    print_sentence(f"Start the daemon, then ask Prembly for what came since: `{since}`")


def _lines(taken: Taken) -> Iterator[str]:
    """Yield what people should know before it is put in."""
    yield (
        f"{taken.copy}: record {taken.record}, newest from {times.for_people(taken.newest_ms)} UTC."
    )
    if not taken.is_proven:
        yield (
            "It has not the name that it was made with, which has a digest: SQLite finds no damage,"
            " but it does not see every changed byte."
        )
    newest = times.for_people(taken.newest_erasure_ms)
    known = f"the newest erasure known is from {newest} UTC" if newest else "no erasure is known"
    yield f"Erased again: {_again(taken.erased_again)}; {known}."
    if not taken.knows_erasures:
        yield (
            "Only what lies beside the copy knows of erasures. If there is a newer .erased.jsonl"
            " elsewhere, name it: --erased FILE."
        )
    if taken.waiting:
        waiting = counted(taken.waiting, "delivery waits", "deliveries wait")
        yield (
            f"{waiting} in it, and will run, perhaps a second time. Before you start the daemon,"
            " `premblyd pause ACTION` keeps them waiting."
        )


def _again(again: AppliedAgain) -> str:
    return f"{counted(again.events, 'event')} of {counted(again.erasures, 'erasure')}"
