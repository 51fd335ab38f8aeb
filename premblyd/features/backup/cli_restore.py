"""premblyd record restore: puts a copy in the place of the database, or erases again in it."""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from premblyd.cli import caller, config_option, json_option
from premblyd.cli.caller import actor
from premblyd.cli.common import database_of
from premblyd.cli.printing import print_json, print_sentence, print_told, progress, showing
from premblyd.features.backup import restoring
from premblyd.features.backup.restoring import Taken
from premblyd.features.keeping.erasingagain import AppliedAgain
from premblyd.ground import times
from premblyd.ground.words import counted

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
        click.echo(caller.as_called(line), err=as_json)
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
