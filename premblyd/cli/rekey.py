"""premblyd rekey"""

import sys
from pathlib import Path
from typing import Any

import click

from premblyd.cli import config_option, json_option
from premblyd.cli.caller import actor
from premblyd.cli.common import database_of, open_to_change, open_to_read, settings_if_valid
from premblyd.cli.printing import print_json, progress
from premblyd.engines.connections import backend
from premblyd.engines.engine import Database
from premblyd.errors import PremblydError, TryAgainError
from premblyd.keep import rekeying
from premblyd.keep.rekeying import Done, Standing
from premblyd.words import counted


@click.command()
@click.option("--dry-run", is_flag=True, help="Count what would be done, and do nothing.")
@config_option
@json_option
def rekey(config_path: Path, *, dry_run: bool, as_json: bool) -> None:
    """What came before `encryption: {key: …}` is sealed, and events' keys that a data key of
    `old_keys` wraps are wrapped by `key`; no body is sealed twice. In small steps beside daemons,
    and on record. What was ended goes on when it is run again.

    At the end it says which data keys are needed no more.
    """
    place = database_of(config_path)
    settings = settings_if_valid(config_path)
    if settings is not None and settings.encryption is not None:
        settings.encryption.require_library()  # else it would look as if nothing were to be sealed
    if dry_run:
        found = rekeying.standing(open_to_read(place))
        _tell(found, Done(), as_json=as_json, is_done=False)
        return
    database = open_to_change(place)
    before = rekeying.standing(database)
    done = _rekey(database, before, silent=as_json)
    is_gone = not done.sealed or database.scrub().is_gone
    _tell(rekeying.standing(database), done, as_json=as_json, is_done=True)
    for warning in backend(place).inspect().warnings if done.sealed else ():
        click.echo(f"note: {warning}.", err=True)
    if not is_gone:
        raise TryAgainError(
            "What was in clear is in the database's log until nobody reads what was there before."
            " Run the same again then."
        )
    if done.damaged:
        raise PremblydError(
            f"Left as they are: {counted(len(done.damaged), 'event')} whose key can't be opened,"
            f" or is gone, as somebody changed that (`premblyd show {done.damaged[0]}`)."
        )


def _rekey(database: Database, before: Standing, *, silent: bool) -> Done:
    with progress(silent=silent) as shown:
        task = shown.add_task("sealing", total=before.in_clear + before.to_wrap)

        def advanced(done: Done) -> None:
            shown.update(task, completed=done.sealed + done.wrapped)

        try:
            return rekeying.rekey(database, actor(), advanced)
        except KeyboardInterrupt:
            raise PremblydError(
                "Interrupted. What was begun is whole; `premblyd rekey` goes on."
            ) from None


def _tell(found: Standing, done: Done, *, as_json: bool, is_done: bool) -> None:
    old = {each: count for each, count in found.by_data_key.items() if each != found.seals_with}
    if as_json:
        told: dict[str, Any] = {"sealed": done.sealed, "wrapped": done.wrapped} if is_done else {}
        print_json(
            {
                **told,
                "in_clear": found.in_clear,
                "data_key": found.seals_with,
                "by_data_key": found.by_data_key,
                "lacking": list(found.lacking),
                "idle": list(found.idle),
                "damaged": done.damaged,
            }
        )
        return
    if is_done:
        events, keys = counted(done.sealed, "event"), counted(done.wrapped, "key")
        click.echo(f"Sealed {events}; wrapped {keys} by data key {found.seals_with}.")
    click.echo(f"In clear: {counted(found.in_clear, 'event')}.")
    for each, count in old.items():
        where = "which `encryption` does not name" if each in found.lacking else "of `old_keys`"
        click.echo(f"By data key {each}, {where}: {counted(count, 'event')}.")
    for each in found.idle:
        click.echo(
            f"Data key {each} is not needed for this database any more: once no host has it as"
            " `key`, take it out of `old_keys`. Copies that were made before need it, but those by"
            " `premblyd backup`."
        )
    sys.stdout.flush()
