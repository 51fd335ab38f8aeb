"""Sealing by age (age-encryption.org): what is written can be read by its recipients alone. It is
sealed while it is written, so that nothing of it is on a disk in clear, and no more than a pipe
holds is in memory."""

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any, BinaryIO

from premblyd.errors import PremblydError


class CannotSealError(PremblydError):
    """What seals is not installed, or a recipient is none."""


def require_recipients(recipients: Sequence[str]) -> None:
    """Raise CannotSealError when nothing can be sealed to these: `age1…`."""
    if recipients:
        _read(_library(), recipients)


@contextlib.contextmanager
def sealed(out: BinaryIO, recipients: Sequence[str]) -> Iterator[BinaryIO]:
    """Give a file whose content is sealed to the recipients and written to `out`. Raise
    CannotSealError for what is no recipient, and what writing to `out` raises."""
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
