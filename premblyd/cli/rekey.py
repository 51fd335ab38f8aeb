"""premblyd rekey"""

import os
import sys
from pathlib import Path
from typing import Any

import click

from premblyd.cli import caller, config_option, json_option
from premblyd.cli.caller import actor
from premblyd.cli.common import (
    database_of,
    open_to_change,
    open_to_read,
    settings_if_valid,
    vault,
)
from premblyd.cli.printing import print_json, print_told, progress
from premblyd.cli.restore import become_owner
from premblyd.databases import DatabaseAddress
from premblyd.engines.connections import backend
from premblyd.engines.engine import Database
from premblyd.errors import PremblydError, TryAgainError
from premblyd.keep import rekeying, sealnames
from premblyd.keep.rekeying import Done, Standing
from premblyd.keep.sealnames import InClear
from premblyd.words import counted


@click.command()
@click.option("--dry-run", is_flag=True, help="Count what would be done, and do nothing.")
@click.option(
    "--names",
    "with_names",
    is_flag=True,
    help="With `identity: sealed`: seal references and user_refs too, while no daemon works.",
)
@config_option
@json_option
def rekey(config_path: Path, *, dry_run: bool, with_names: bool, as_json: bool) -> None:
    """What came before `encryption: {key: …}` is sealed, and events' keys that a data key of
    `old_keys` wraps are wrapped by `key`; no body is sealed twice. In small steps beside daemons,
    and on record. What was ended goes on when it is run again.

    At the end it says which data keys are needed no more.

    --names does more, once, for a database that had its names in clear before `encryption:
    {identity: sealed}`: all daemons are stopped for that, and none starts until it is done. What
    was ended goes on when it is run again. Exit status 75: a daemon works.
    """
    place = database_of(config_path)
    settings = settings_if_valid(config_path)
    if settings is not None and settings.encryption is not None:
        settings.encryption.require_library()  # else it would look as if nothing were to be sealed
    if with_names:
        _seal_names(place, dry_run=dry_run, as_json=as_json)
        return
    if dry_run:
        found = rekeying.standing(open_to_read(place))
        _tell(found, Done(), as_json=as_json, is_done=False)
        return
    database = open_to_change(place, as_it_is=True)
    before = rekeying.standing(database)
    done = _rekey(database, before, silent=as_json)
    is_gone = not done.sealed or database.scrub().is_gone
    _tell(rekeying.standing(database), done, as_json=as_json, is_done=True)
    _tell_left(place, is_gone=is_gone, is_changed=done.sealed > 0)
    if done.damaged:
        raise PremblydError(
            f"Left as they are: {counted(len(done.damaged), 'event')} whose key can't be opened,"
            f" or is gone, as somebody changed that (`premblyd show {done.damaged[0]}`)."
        )


def _seal_names(place: DatabaseAddress, *, dry_run: bool, as_json: bool) -> None:
    """Seal all that is in clear, and then the names, while no daemon works. Print what that did."""
    found = sealnames.in_clear(open_to_read(place))
    if dry_run:
        _tell_names(found, None, as_json=as_json)
        return
    sealnames.require_sealing(vault())
    if isinstance(place, Path):
        become_owner(Path(os.path.realpath(place)))
    with backend(place).hold():
        database = open_to_change(place, as_it_is=True)
        done = 0
        if not found.is_over:
            sealed = _rekey(database, rekeying.standing(database), silent=as_json)
            if sealed.damaged:
                raise PremblydError(
                    f"{counted(len(sealed.damaged), 'event')} can't be sealed, as its key can't be"
                    f" opened or is gone (`premblyd show {sealed.damaged[0]}`): put it right, or"
                    " erase it, then again. No name was changed."
                )
            is_alone = not backend(place).is_shared
            done = _convert(database, found.events, is_alone=is_alone, silent=as_json)
        is_gone = database.scrub().is_gone  # also of what a run has sealed that was ended then
        _tell_names(sealnames.in_clear(database), done, as_json=as_json)
        _tell_left(place, is_gone=is_gone, is_changed=done > 0)


def _tell_left(place: DatabaseAddress, *, is_gone: bool, is_changed: bool) -> None:
    """Say what has anything in clear still. Raise TryAgainError while the log has."""
    for warning in backend(place).inspect().warnings if is_changed else ():
        click.echo(f"note: {caller.as_called(warning)}.", err=True)
    if not is_gone:
        raise TryAgainError(
            "What was in clear is in the database's log until nobody reads what was there before."
            " Run the same again then."
        )


def _convert(database: Database, total: int, *, is_alone: bool, silent: bool) -> int:
    with progress(silent=silent) as shown:
        task = shown.add_task("sealing names", total=total)
        return sealnames.seal_names(
            database,
            actor(),
            lambda done: shown.update(task, completed=done),
            is_alone=is_alone,
        )


def _tell_names(found: InClear, done: int | None, *, as_json: bool) -> None:
    exact: dict[str, Any] = {"names_in_clear": found.events, "names": found.naming or "plain"}
    words = f"Names in clear: {counted(found.events, 'event')}."
    if done is not None:
        exact = {"names_sealed": done, **exact}
        words = f"Sealed the names of {counted(done, 'event')}.\n{words}"
    print_told(exact, words, as_json=as_json)


def _rekey(database: Database, before: Standing, *, silent: bool) -> Done:
    with progress(silent=silent) as shown:
        task = shown.add_task("sealing", total=before.in_clear + before.to_wrap)

        def advanced(done: Done) -> None:
            shown.update(task, completed=done.sealed + done.wrapped)

        return rekeying.rekey(database, actor(), advanced)


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
