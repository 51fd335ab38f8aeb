"""The daemon's loop that renews the keys' copy: after a period has removed what was sealed, and
where a command that erased could not."""

import asyncio
import contextlib
import time

from premblyd import loops
from premblyd.backup import keys
from premblyd.config.models import Config
from premblyd.engines.backend import Backend
from premblyd.engines.writer import Step, Writer
from premblyd.errors import PremblydError
from premblyd.keep import keycopies
from premblyd.telemetry import tell

ACTOR = "daemon"
FIRST_S = 5.0
REST_S = 15.0
FAILED_S = 60.0
EVERY_S = 3600.0
PAUSE_S = 0.2  # between two files: webhooks come first


class KeysUpkeep:
    """Renews the keys' copy: after each start, when `want` was called, when somebody was erased
    since it was renewed last, and each hour, as another host may have removed something. Which host
    can reach the folder does it, whether or not it is the one that removes."""

    def __init__(self, backend: Backend, writer: Writer) -> None:
        self._backend = backend
        self._writer = writer
        self._settings: Config | None = None
        self._is_wanted = True  # keys may have gone while no daemon ran
        self._again_s = 0.0
        self._told: str | None = None

    def configure(self, settings: Config) -> None:
        """Renew it where these settings say from now on."""
        self._settings = settings
        self._is_wanted = True

    def want(self) -> None:
        """Have it renewed, as keys may have gone. Any thread may call it."""
        self._is_wanted = True

    async def run(self) -> None:
        """Renew it, until cancelled."""
        await loops.repeat(self.look, FAILED_S, first_s=FIRST_S, failed=_tell_failed)

    async def look(self) -> float:
        """Look once; return the seconds until the next time."""
        settings = self._settings
        if settings is None or keys.folder_of(settings) is None:
            return REST_S
        is_wanted = self._is_wanted or time.monotonic() >= self._again_s
        if not is_wanted and not await self._writer.call(keycopies.is_due, Step.EVIDENCE):
            return REST_S
        self._is_wanted = False
        try:
            await asyncio.to_thread(self._renew, settings)
        except PremblydError as error:
            self._is_wanted = True
            if str(error) != self._told:  # once: until it is mended, or something else is wrong
                tell("erasure.keys_not_copied", reason=str(error))
            self._told = str(error)
            return FAILED_S
        self._told = None
        self._again_s = time.monotonic() + EVERY_S
        return REST_S

    def _renew(self, settings: Config) -> None:
        with contextlib.closing(self._backend.connect_operator()) as database:
            place = keys.folder_of(settings)
            if place is None or settings.backup is None:
                return
            if database.look(keycopies.is_due):
                keys.keep_up(settings, database, ACTOR, PAUSE_S)
            else:  # on record it would be once for each period that removes something
                keys.renew(database, place, settings.backup.recipients, PAUSE_S)


def _tell_failed(error: Exception) -> None:
    tell("erasure.keys_failed", cause=error)
