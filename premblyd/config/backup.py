"""To whom copies of the record are sealed, and after how long the next one is missed."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from premblyd.config.retention import Period
from premblyd.config.values import Model

WARN_AFTER_MS = 2 * 24 * 3_600_000
_LETTERS = frozenset("023456789acdefghjklmnpqrstuvwxyz")  # of age's recipients


def _recipient(text: Any) -> str:
    """Read a recipient of age. Raise ValueError for anything else: its secret key above all."""
    recipient = str(text).strip()
    if recipient.upper().startswith("AGE-SECRET-KEY-"):
        raise ValueError(
            "this is the secret key, which opens the copies: keep it elsewhere, and write its"
            " recipient here, which `age-keygen -y FILE` prints"
        )
    if not recipient.startswith("age1") or not _LETTERS.issuperset(recipient[4:]):
        raise ValueError("should be a recipient of age, which begins with age1")
    return recipient


def _folder(text: Any) -> Path:
    """Read a folder's path, which daemon and commands find, wherever they are. Raise ValueError."""
    path = Path(str(text))
    if not path.is_absolute():
        raise ValueError("should be a folder from / on, such as /var/lib/premblyd/keys")
    return path


class Backup(Model):
    """What `premblyd backup` seals its copies to: any one of these opens them. `keys`: the folder
    for the copy of events' keys, with `encryption`. `warn_after`: so long after a copy the next is
    missed."""

    recipients: tuple[Annotated[str, BeforeValidator(_recipient)], ...] = ()
    keys: Annotated[Path, BeforeValidator(_folder)] | None = None
    warn_after_ms: Period = Field(WARN_AFTER_MS, alias="warn_after")
