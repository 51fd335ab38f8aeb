"""What `premblyd check` says of encryption."""

from collections.abc import Iterator
from pathlib import Path

from premblyd.config.models import Config
from premblyd.ground.databases import key_of


def promises(settings: Config) -> Iterator[str]:
    """Yield whether the record is encrypted, where it can be."""
    if key := key_of(settings.database):
        yield f"The record is encrypted. Without {key} it and its copies are lost: copy the key."
    if isinstance(settings.database, Path):
        yield "The record and its copies are not encrypted (no `encryption`)."


PROMISES = (promises,)
