"""What `status` and `check` say about the database's key."""

import os
from collections.abc import Iterator
from pathlib import Path

from premblyd.config.models import Config
from premblyd.ground import databases
from premblyd.ground.databases import key_of
from premblyd.record.told import Item, Situation, trouble


@trouble(reads_record=False, has_metric=False, reminds=True)
def key(situation: Situation) -> Iterator[Item]:
    """Yield that a key is there which was to be the next one of an encrypted database."""
    own = situation.settings and key_of(situation.settings.database)
    if own and os.path.lexists(databases.next_key(own)):
        yield Item(
            text="A change of the database's key was interrupted: there is"
            f" {databases.next_key(own)}.",
            remedy="Nothing is lost. Stop the daemon, and finish it.",
            command="sudo premblyd record encrypt",
        )


def promises(settings: Config) -> Iterator[str]:
    """Yield whether the record is encrypted, where it can be."""
    if key := key_of(settings.database):
        yield f"The record is encrypted. Without {key} it and its copies are lost: copy the key."
    if isinstance(settings.database, Path):
        yield "The record and its copies are not encrypted (no `encryption`)."


PROMISES = (promises,)
TROUBLES = (key,)
