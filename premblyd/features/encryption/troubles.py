"""The trouble of encrypted databases: a change of the key was interrupted."""

import os
from collections.abc import Iterator

from premblyd.features.encryption.settings import ENCRYPTION
from premblyd.ground import databases
from premblyd.record.troubles.trouble import Item, Situation, trouble


@trouble(
    means="a change of the database's key was interrupted",
    reads_record=False,
    has_metric=False,
    reminds=True,
)
def key(situation: Situation) -> Iterator[Item]:
    """Yield that a key is there which was to be the next one of an encrypted database."""
    encryption = situation.settings and ENCRYPTION.of(situation.settings)
    if encryption and os.path.lexists(databases.next_key(encryption.key_path)):
        yield Item(
            text=f"A change of the database's key was interrupted: there is"
            f" {databases.next_key(encryption.key_path)}.",
            remedy="Nothing is lost. Stop the daemon, and finish it.",
            command="sudo premblyd record encrypt",
        )


TROUBLES = (key,)
