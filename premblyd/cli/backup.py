"""premblyd backup: a copy of the record while the daemon runs."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import click

from premblyd.backup import keys, making
from premblyd.backup.keys import Renewed
from premblyd.backup.making import Made
from premblyd.cli import caller, config_option, json_option
from premblyd.cli.caller import actor
from premblyd.cli.printing import print_json, progress
from premblyd.config.load import load_config
from premblyd.config.models import Config
from premblyd.databases import DatabaseAddress
from premblyd.engines.besides import Copied
from premblyd.engines.connections import backend, connect_operator, connect_read_only
from premblyd.errors import PremblydError, TryAgainError
from premblyd.seal.starting import require_keys
from premblyd.words import counted, size

IN_CLEAR = (
    "warning: {} is in clear: whoever gets it reads all that is known of people. Seal copies by"
    " `backup: {{recipients: [age1…]}}` in the configuration (`premblyd init` shows it)."
)


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--keep",
    metavar="N",
    type=click.IntRange(1),
    help="Then remove older copies, so that N are there. Without it, none is removed.",
)
@config_option
@json_option
def backup(config_path: Path, *, folder: Path, keep: int | None, as_json: bool) -> None:
    """A copy of the whole record as it is at one moment, in a new file in DIR, for you alone to
    read: premblyd-20260131T021500Z.db, by UTC. The daemon goes on meanwhile.

    It is sealed by age, while it is written, if the configuration has `backup: {recipients:
    [age1…]}`. Who is erased later is in it still: so keep few copies, and not for long. The
    configuration and its keys are in no copy.

    With `encryption` the keys by which events are opened are in no copy either, but beside, in the
    folder of `backup: {keys: DIR}`: of these only the newest are kept, so who is erased later no
    copy opens any more.

    Exit status: 0 done, 1 failed, 75 try again. Then the copies of before are there still.
    """
    settings = load_config(config_path, look_up_secrets=False)
    place = settings.database
    is_sealed = keys.require(settings, folder) is not None
    with closing(connect_read_only(place)) as record:
        now_ms = record.now_ms()
        require_keys(record.with_vault(settings.vault))
    recipients = settings.backup.recipients if settings.backup else ()
    renewed: Renewed | None = None

    def copy_keys(copy: Path) -> None:
        nonlocal renewed
        renewed = _renewed(settings, copy)

    with _shown(silent=as_json) as tell:
        made = making.make(
            backend(place),
            folder,
            recipients,
            keep,
            now_ms,
            tell,
            copy_keys=copy_keys if is_sealed else None,
        )
    is_recorded = _record(place, made)
    if not made.is_sealed:
        click.echo(caller.as_called(IN_CLEAR.format(made.path)), err=True)
    for path in made.left:
        click.echo(f"note: {path} could not be removed: it is somebody else's.", err=True)
    if as_json:
        _print_json(made, is_recorded, renewed)
        return
    sealed = f", sealed to {counted(len(recipients), 'recipient')}" if recipients else ""
    click.echo(f"Copied the record to {made.path}: {size(made.bytes)}{sealed}.")
    if renewed is not None:
        click.echo(f"It has no events' keys: the keys' copy has {counted(renewed.keys, 'key')}.")
    if made.removed:
        click.echo(f"Removed {counted(len(made.removed), 'older copy', 'older copies')}.")


def _renewed(settings: Config, copy: Path) -> Renewed | None:
    """Renew the keys' copy. Raise PremblydError when that can't be done."""
    try:
        with closing(connect_operator(settings.database, settings.vault)) as database:
            return keys.keep_up(settings, database, actor())
    except PremblydError as error:
        kind = TryAgainError if isinstance(error, TryAgainError) else PremblydError
        raise kind(
            f"{copy} is whole, and its events' keys are in no copy yet, so that it can't be"
            f" opened: {error} Then back up again."
        ) from None


@contextmanager
def _shown(*, silent: bool) -> Iterator[Callable[[Copied], None]]:
    """Give what shows how far the copy is."""
    with progress(silent=silent) as shown:
        task = shown.add_task("copying", total=None)

        def tell(copied: Copied) -> None:
            doing = "checking" if copied.is_checking else "copying"
            total = None if copied.is_checking else copied.total_bytes
            shown.update(task, description=doing, total=total, completed=copied.bytes)

        yield tell


def _record(place: DatabaseAddress, made: Made) -> bool:
    """Put on record that there is a copy, if this user may; return whether it is."""
    try:
        with closing(connect_operator(place)) as database:
            making.write_down(database, actor(), made)
    except PremblydError as error:
        click.echo(
            f"note: The copy is whole, and not on record, so `status` may miss it: {error}",
            err=True,
        )
        return False
    return True


def _print_json(made: Made, is_recorded: bool, renewed: Renewed | None) -> None:
    print_json(
        {
            "file": str(made.path),
            "bytes": made.bytes,
            "at_ms": made.at_ms,
            "sealed": made.is_sealed,
            "removed": [str(path) for path in made.removed],
            "recorded": is_recorded,
            "keys": renewed.keys if renewed else None,
        }
    )
