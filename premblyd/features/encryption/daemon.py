"""Warns at the start when a change of the database's key was interrupted."""

import os

from premblyd.ground import databases
from premblyd.ground.databases import key_of
from premblyd.ground.telemetry import tell
from premblyd.services import Part, Services


class KeyWatch(Part):
    """Logs that a change of the key was interrupted."""

    def open(self, services: Services) -> None:
        if (key := key_of(services.database)) and os.path.lexists(databases.next_key(key)):
            remedy = "stop the daemon, and finish the change: premblyd record encrypt"
            tell("daemon.key_changing", key=str(databases.next_key(key)), remedy=remedy)


PARTS = (KeyWatch,)
