"""Tells pages that something has changed, by server-sent events: one look a second at the record
for all who watch, and none while nobody does."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from tornado.iostream import StreamClosedError

from premblyd import jsontext
from premblyd.console.handler import Handler, Services, plain
from premblyd.engines.readers import Readers
from premblyd.errors import PremblydError, TryAgainError
from premblyd.record.statistics import Pulse, pulse

EVERY_S = 1.0
MAX_WATCHERS = 32
SESSION_EVERY = 30  # rounds: then it is asked whether the session still is one


class TooManyWatchersError(TryAgainError):
    """As many pages are live as may be. The others are current when they are loaded."""


class Live:
    """The latest pulse, for who watches."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers
        self._changed = asyncio.Condition()
        self._latest: Pulse | None = None
        self._watchers = 0
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False

    async def watch(self) -> AsyncGenerator[Pulse | None, None]:
        """Yield the pulse now and whenever it has changed; None from time to time when it has not.
        Raise TooManyWatchersError when there are too many."""
        if self._watchers >= MAX_WATCHERS:
            raise TooManyWatchersError("Too many pages are live. Reload to see what is new.")
        self._watchers += 1
        try:
            if self._task is None:
                self._task = asyncio.create_task(self._look())
            seen: Pulse | None = None
            while True:
                latest = self._latest
                if self._is_closed:
                    return
                yield latest if latest != seen else None
                seen = latest
                async with self._changed:
                    await self._changed.wait()
        finally:
            self._watchers -= 1

    async def close(self) -> None:
        """Look no more, and let who watches go."""
        self._is_closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        async with self._changed:
            self._changed.notify_all()

    async def _look(self) -> None:
        try:
            while self._watchers:
                with contextlib.suppress(PremblydError):  # the next look may succeed
                    self._latest = await self._readers.run(pulse)
                async with self._changed:
                    self._changed.notify_all()
                await asyncio.sleep(EVERY_S)
        finally:
            self._task = None


class LiveStream(Handler):
    """Sends the pulse of the record whenever it changes, for as long as the session lasts."""

    def initialize(  # type: ignore[override]
        self, services: Services, live: Live
    ) -> None:
        super().initialize(services)
        self._live = live

    async def get(self) -> None:
        self.set_header("Content-Type", "text/event-stream; charset=UTF-8")
        self.set_header("X-Accel-Buffering", "no")  # nginx passes it on at once
        watching = self._live.watch()
        rounds = 0
        try:
            async for pulse in watching:
                rounds += 1
                if rounds % SESSION_EVERY == 0:
                    self.begin_anew()
                    if not await self._is_signed_in():
                        return
                self.write(_message(pulse))
                await self.flush()
        except StreamClosedError:
            return
        finally:
            await watching.aclose()

    async def _is_signed_in(self) -> bool:
        """Return whether who watches still may. Where that can't be known now, they ask again."""
        try:
            return await self.find_session() is not None
        except PremblydError:
            return False


def _message(pulse: Pulse | None) -> bytes:
    if pulse is None:
        return b": nothing new\n\n"
    return b"event: pulse\ndata: " + jsontext.dumps(plain(pulse)) + b"\n\n"
