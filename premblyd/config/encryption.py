"""That the SQLite file is encrypted, and where its key is."""

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PlainValidator, ValidationInfo

from premblyd.config.secrets import ForbiddenSecretError, SecretPlaces, secret_places
from premblyd.config.values import Model
from premblyd.errors import PremblydError
from premblyd.keyfile import read_key


def key_path(value: Any, places: SecretPlaces) -> Path:
    """Read where the key of an encrypted database is. Raise ValueError when it is not there, or is
    no key; not where secrets are not looked up."""
    match value:
        case {"file": str(name)} if len(value) == 1 and name:
            paths = places.files(name)
        case _:
            raise ValueError("should be {file: NAME}")
    path = next(filter(os.path.lexists, paths), paths[-1])
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
