"""Secrets of a configuration: given as text, in a file or in an environment variable. Files are
read within bounds: people may name a device or a pipe."""

import errno
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import PlainValidator, ValidationInfo

from premblyd.ground.errors import PremblydError

MAX_CONFIG_BYTES = 16 << 20  # 20,000 actions take a fifth of that
MAX_SECRET_BYTES = 64 << 10


class UnusableFileError(PremblydError, ValueError):
    """The file is not one to be read here. The text says why, without its name."""


def read_bounded(path: Path, max_bytes: int = MAX_CONFIG_BYTES) -> bytes:
    """Return the bytes of a file that may be a pipe too. Raise OSError when it can't be read,
    UnusableFileError when it is too large."""
    with path.open("rb") as file:
        return _bounded(file.read(max_bytes + 1), max_bytes)


def read_secret_file(path: Path) -> bytes:
    """Return the bytes of a secret's file. Raise OSError when it can't be read, UnusableFileError
    when it is no plain file, which might have no end or never begin, or too large."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    kind = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(kind):
        os.close(descriptor)
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        raise UnusableFileError("is no plain file")
    with open(descriptor, "rb") as file:
        return _bounded(file.read(MAX_SECRET_BYTES + 1), MAX_SECRET_BYTES)


def _bounded(content: bytes, max_bytes: int) -> bytes:
    if len(content) > max_bytes:
        raise UnusableFileError(f"has more than {max_bytes >> 10:,} KiB")
    return content


@dataclass(frozen=True, slots=True)
class Secret:
    """A value that is never shown: given as text, or kept in a file or environment variable."""

    source: str  # "text", "file:NAME" or "env:NAME": safe to show
    value: str | None = field(default=None, repr=False)  # None: not looked up

    def reveal(self) -> str:
        """Return the value. Only where it is used: never to print or log it."""
        if self.value is None:
            raise LookupError(f"the secret {self.source} was not looked up")
        return self.value


class ForbiddenSecretError(PremblydError, ValueError):  # pydantic collects ValueErrors
    """This user may not read the secret's file."""


@dataclass(frozen=True, slots=True)
class SecretPlaces:
    """Where secrets are looked up; or that they are not, for auditors, who can't read them."""

    folder: Path  # of the configuration file
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    look_up: bool = True
    file: Path | None = None  # the configuration file, for messages

    def files(self, name: str) -> list[Path]:
        """Return the paths a secret file called `name` may have, in the order they are tried."""
        places = []
        if credentials := self.environ.get("CREDENTIALS_DIRECTORY"):
            # systemd names what LoadCredential=credentials:FOLDER loads credentials_NAME.
            places += [Path(credentials, name), Path(credentials, f"credentials_{name}")]
        return [*places, self.folder / name, self.folder / "credentials" / name]


def secret(value: Any, info: ValidationInfo) -> Secret:
    """Read a secret: text, {file: NAME} or {env: NAME}. Raise ValueError when it can't be read."""
    return read_secret(value, secret_places(info))


def read_secret(value: Any, places: SecretPlaces) -> Secret:
    """Read a secret as `secret` does, looking it up in these places."""
    match value:
        case str() if value.strip():
            return Secret("text", _usable(value))
        case {"file": str(name)} if len(value) == 1 and name:
            source = f"file:{name}"
            return Secret(source, _usable(_read(name, places)) if places.look_up else None)
        case {"env": str(name)} if len(value) == 1 and name:
            source = f"env:{name}"
            if not places.look_up:
                return Secret(source)
            if name not in places.environ:
                raise ValueError(f"the environment variable {name} is not set")
            return Secret(source, _usable(places.environ[name]))
        case _:
            raise ValueError("should be text, {file: NAME} or {env: NAME}")


def secret_places(info: ValidationInfo) -> SecretPlaces:
    """Return the places that were passed to this validation."""
    if not isinstance(info.context, SecretPlaces):
        raise TypeError("validate with context=SecretPlaces(...)")
    return info.context


def _read(name: str, places: SecretPlaces) -> str:
    paths = places.files(name)
    loaded = places.environ.get("CREDENTIALS_DIRECTORY")
    for path in paths:
        try:
            return read_secret_file(path).decode().removesuffix("\n").removesuffix("\r")
        except (FileNotFoundError, NotADirectoryError):
            continue
        except UnicodeDecodeError:
            raise ValueError(f"the secret file {path} is not UTF-8 text") from None
        except UnusableFileError as error:
            raise ValueError(f"the secret file {path} {error}") from None
        except OSError as error:
            if loaded and isinstance(error, PermissionError):
                continue  # root's folder: systemd copies what is in it
            kind = ForbiddenSecretError if isinstance(error, PermissionError) else ValueError
            raise kind(f"can't read the secret file {path}: {error.strerror}") from None
    if loaded:
        raise ValueError(
            f"systemd passed the service no secret file {name}: put it into"
            f" {places.folder}/credentials, then restart the service"
        )
    tried = ", ".join(str(path) for path in paths)
    raise ValueError(f"there is no secret file {name}; looked for {tried}")


def _usable(value: str) -> str:
    if not value.strip():
        raise ValueError("the secret is empty")  # an empty key would let everyone in
    if "\0" in value or "\n" in value or "\r" in value:
        raise ValueError("the secret has more than one line, or a NUL")
    try:
        value.encode()
    except UnicodeEncodeError:  # an environment variable may hold any bytes
        raise ValueError("the secret is not UTF-8 text") from None
    return value


def checked(check: Callable[[Secret], object]) -> PlainValidator:
    """Return what reads a secret that `check` takes, once it is looked up, or raises ValueError
    for."""

    def read(value: Any, info: ValidationInfo) -> Secret:
        found = secret(value, info)
        if found.value is not None:
            check(found)
        return found

    return PlainValidator(read)


def shaped(pattern: str, words: str) -> PlainValidator:
    """Return what reads a secret of this whole pattern; `words` tell a person what that is."""

    def check(found: Secret) -> None:
        if not re.fullmatch(pattern, found.reveal()):
            raise ValueError(words)

    return checked(check)


def _require_plain(key: Secret) -> None:
    # Copying may add white space; with it no signature would be right.
    if key.reveal() != key.reveal().strip():
        raise ValueError(f"the key ({key.source}) has white space around it; Prembly's have none")


SecretValue = Annotated[Secret, PlainValidator(secret)]
KeyValue = Annotated[Secret, checked(_require_plain)]  # of Prembly's
