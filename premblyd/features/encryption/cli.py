"""premblyd record encrypt: the database of a stopped daemon, encrypted or given another key."""

from collections.abc import Iterator
from pathlib import Path

import click

from premblyd.cli import caller, config_option, json_option
from premblyd.cli.common import database_of
from premblyd.cli.printing import print_told, progress, showing
from premblyd.features.encryption import encrypting
from premblyd.features.encryption.encrypting import Encrypted
from premblyd.ground import times
from premblyd.ground.databases import EncryptedFile, OnServer
from premblyd.ground.errors import CannotStartError


@click.command()
@click.option(
    "--new-key",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Change the key: this file has the new one, 64 hex digits.",
)
@config_option
@json_option
def encrypt(config_path: Path, *, new_key: Path | None, as_json: bool) -> None:
    """The configuration names the key: `encryption: {key: {file: database.key}}`. Without the key
    the record is lost, and so are its copies: keep a copy of it elsewhere.

    The daemon must be stopped. What was interrupted is finished by the same command. The old file
    is kept beside the new one until you delete it, and so is an old key.

    Exit status 75: a daemon runs, or another command has the database open.
    """
    place = database_of(config_path)
    if isinstance(place, OnServer):
        raise CannotStartError(
            "The record is on a PostgreSQL server: put that on an encrypted volume."
        )
    if not isinstance(place, EncryptedFile):
        raise CannotStartError(
            f"{config_path} names no key. `premblyd init --encryption {config_path.parent}` makes"
            " one, and says what to write there."
        )
    with progress(silent=as_json) as shown:
        done = encrypting.encrypt(place, new_key, times.now_ms(), showing(shown))
    paths = {"removed_key": done.dropped, "old_file": done.aside, "old_key": done.old_key}
    exact = {name: path and str(path) for name, path in paths.items()}
    told = caller.as_called("\n".join(_told(place, done)))
    print_told({"finished": done.finished, **exact}, told, as_json=as_json)


def _told(place: EncryptedFile, done: Encrypted) -> Iterator[str]:
    if done.dropped:
        yield f"Removed {done.dropped}: it does not open {place}."
    if done.finished:
        yield "Finished the change of the key that was interrupted."
    if done.aside is None:
        yield f"{place} is encrypted with the key in {place.key_path}."
    elif done.was_plain:
        yield f"Encrypted {place} with the key in {place.key_path}. Without that key it is lost."
        yield (
            f"{done.aside} is the old file, NOT encrypted: anybody who gets it can read it, as"
            f" the copies of until now. When premblyd runs again, delete it: shred -u {done.aside}"
        )
    else:
        yield f"Changed the key of {place}. {done.aside} is the old file, with the old key."
    if done.old_key:
        yield f"{done.old_key} is the old key. Copies of until now need it: keep it with care."
        yield "Keep a copy of the new key too, in another place than the copies."
