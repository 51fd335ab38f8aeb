"""Sealing by age (age-encryption.org): what is written can be read by its recipients alone. It is
sealed while it is written, so that nothing of it is on a disk in clear, and no more than a pipe
holds is in memory. And opening what was sealed, by an identity."""

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

from premblyd.errors import LacksRightsError, PremblydError


class CannotSealError(PremblydError):
    """What seals is not installed, or a recipient is none."""


class CannotOpenError(PremblydError):
    """What is sealed can't be opened: by this identity, or since it is not whole."""


MAGIC = b"age-encryption.org/v1\n"
_MAX_IDENTITY_BYTES = 64 << 10


class Identity:
    """What opens what was sealed to it. Only where it is used is it more than this."""

    def __init__(self, keys: Sequence[Any], library: ModuleType) -> None:
        self._keys = keys
        self._library = library

    def open(self, source: BinaryIO, out: BinaryIO) -> None:
        """Write to `out` what is sealed in `source`, from its beginning. Raise CannotOpenError when
        it is not sealed to this identity, or changed or cut: then `out` holds a part at most. Raise
        what writing to `out` raises."""
        source.seek(0)
        target = _Out(out)
        try:
            self._library.decrypt_io(source, target, self._keys)
        except (self._library.DecryptError, OSError) as error:  # OSError: behind the first bytes
            if target.error is not None:
                raise target.error from None
            raise CannotOpenError(
                f"It can't be opened: {_plain(error)}. Is it whole, and sealed to this identity?"
            ) from None


def read_identity(path: Path) -> Identity:
    """Read an identity's file, as `age-keygen` writes it. Raise CannotOpenError when it is none, or
    can't be read. No message has anything of it."""
    library = _library()
    try:
        with path.open("rb") as file:
            lines = file.read(_MAX_IDENTITY_BYTES).decode().splitlines()
    except PermissionError:
        raise LacksRightsError(f"You may not read {path}.") from None
    except OSError as error:
        raise CannotOpenError(f"{path} can't be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        lines = ["no text"]
    texts = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    try:
        keys = [library.x25519.Identity.from_str(text) for text in texts]
    except library.IdentityError:
        keys = []
    if not keys:
        raise CannotOpenError(
            f"{path} is no identity of age, which begins with AGE-SECRET-KEY-1: `age-keygen -o"
            " FILE` makes one. One with a passphrase is opened by `age --decrypt` before."
        )
    return Identity(keys, library)


def _plain(error: Exception) -> str:
    return str(error).rstrip(".") or "age does not say why"


def require_recipients(recipients: Sequence[str]) -> None:
    """Raise CannotSealError when nothing can be sealed to these: `age1…`."""
    if recipients:
        _read(_library(), recipients)


@contextlib.contextmanager
def sealed(out: BinaryIO, recipients: Sequence[str]) -> Iterator[BinaryIO]:
    """Give a file whose content is sealed to the recipients and written to `out`; without any, that
    itself. Raise CannotSealError for what is no recipient, and what writing to `out` raises."""
    if not recipients:
        yield out
        return
    library = _library()
    sealer = _Sealer(library, _read(library, recipients), out)
    try:
        with sealer.source:
            yield sealer.source
    except BrokenPipeError:
        sealer.end()  # which says why nobody reads any more
        raise
    except BaseException:
        with contextlib.suppress(Exception):  # what went wrong first is what matters
            sealer.end()
        raise
    sealer.end()


class _Sealer:
    """The thread that reads what is written to `source`, and seals it."""

    def __init__(self, library: ModuleType, recipients: Sequence[Any], out: BinaryIO) -> None:
        self._library = library
        self._recipients = recipients
        self._out = _Out(out)
        self._error: Exception | None = None
        reading, writing = os.pipe()
        self._sealed = os.fdopen(reading, "rb")
        self.source: BinaryIO = os.fdopen(writing, "wb")
        self._thread = threading.Thread(target=self._run, name="premblyd-sealer")
        self._thread.start()

    def end(self) -> None:
        """Wait until all is sealed. Raise what failed."""
        self._thread.join()
        if self._out.error is not None:
            raise self._out.error
        if self._error is not None:
            raise CannotSealError(f"It could not be sealed: {self._error}.") from None

    def _run(self) -> None:
        with self._sealed:
            try:
                self._library.encrypt_io(self._sealed, self._out, self._recipients)
            except self._library.EncryptError as error:
                self._error = error


class _Out:
    """What the library writes to. It makes a text of what fails there: so that is kept here."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self._out.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._out.flush()


def _library() -> ModuleType:
    try:
        import pyrage
    except ImportError:  # many do without it
        raise CannotSealError(
            "To seal needs the library pyrage: run install.sh --with seal; without systemd,"
            " pip install '.[seal]' in a checkout."
        ) from None
    library: ModuleType = pyrage
    return library


def _read(library: ModuleType, recipients: Sequence[str]) -> list[Any]:
    found = []
    for recipient in recipients:
        try:
            found.append(library.x25519.Recipient.from_str(recipient))
        except library.RecipientError:
            shown = recipient if recipient.startswith("age1") else "That"
            raise CannotSealError(
                f"{shown} is no recipient of age, which begins with age1: `age-keygen -y FILE`"
                " prints it."
            ) from None
    return found
