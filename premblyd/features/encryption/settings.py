"""That the SQLite file is encrypted, and where its key is."""

import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PlainValidator, ValidationInfo

from premblyd.config.keys import InitOption, Mistake, Section
from premblyd.config.models import Config
from premblyd.config.secrets import ForbiddenSecretError, SecretPlaces, secret_places
from premblyd.config.values import Model
from premblyd.features.encryption.keys import read_key
from premblyd.features.keeping.newfile import new_file
from premblyd.ground.databases import EncryptedFile
from premblyd.ground.errors import PremblydError

STATE_FOLDER = Path("/var/lib/premblyd")  # where the template has the database


def key_path(value: Any, places: SecretPlaces) -> Path:
    """Read where the key of an encrypted database is. Raise ValueError when it is not there, or is
    no key; not where secrets are not looked up."""
    match value:
        case {"file": str(name)} if len(value) == 1 and name:
            paths = places.files(name)
        case _:
            raise ValueError("should be {file: NAME}")
    path = next(filter(os.path.lexists, paths), places.folder / name)
    if places.look_up:
        try:
            read_key(path)
        except PremblydError as error:
            raise (ForbiddenSecretError if error.lacks_rights else ValueError)(error) from None
    return path


def _key_path(value: Any, info: ValidationInfo) -> Path:
    return key_path(value, secret_places(info))


class Encryption(Model):
    """That the SQLite file is encrypted, and where its key is."""

    key_path: Annotated[Path, PlainValidator(_key_path)] = Field(alias="key")


def make_key(folder: Path) -> str:
    """Make the key of an encrypted database, if there is none: root gives it to the user whom the
    database's folder belongs to. Return what to print."""
    path = folder / "database.key"
    if os.path.lexists(path):
        return f"{path} is there already, and was not changed."
    with new_file(path) as file:
        if os.geteuid() == 0 and STATE_FOLDER.is_dir():
            owner = STATE_FOLDER.stat()
            os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
        file.write(f"{secrets.token_hex(32)}\n".encode())
    return (
        f"Made the key {path}. Whoever loses it loses the record, and its copies: keep a copy of it"
        " in another place than those."
    )


def encrypted(settings: Config) -> EncryptedFile | None:
    """Return the database as an encrypted one, if it is to be."""
    encryption = ENCRYPTION.of(settings)
    return EncryptedFile(settings.database_value, encryption.key_path) if encryption else None


def of_a_server(data: Mapping[str, Any]) -> Iterator[Mistake]:
    database = data.get("database")
    is_server = isinstance(database, dict) or str(database).startswith("postgres")
    if data.get("encryption") is not None and is_server:
        message = "encrypts a SQLite file; for PostgreSQL, put the server on an encrypted volume"
        yield Mistake(("encryption",), message)


ENCRYPTION: Section[Encryption | None] = Section(
    "encryption", Encryption | None, None, only_at_start=lambda encryption: encryption
)
SECTIONS = (ENCRYPTION,)
INIT_OPTIONS = (
    InitOption(
        "encryption",
        "Have the database encrypted, with a key in DIR/database.key; it is made if missing.",
        lines=("# encryption:", "#   key: {file: database.key}"),
        make=make_key,
        by_hand="Stop the daemon, write this into it, and run `premblyd record encrypt`:\n"
        "encryption: {key: {file: database.key}}",
    ),
)
ADDRESSES = (encrypted,)
MISTAKES = (of_a_server,)
