"""The dead man's switch: the daemon sends heartbeats to a service elsewhere, which alerts people
when they stop. A heartbeat is sent only after a real commit and a real check of the queue.

Signals as Healthchecks.io documents them (healthchecks.io/docs/http_api): the URL itself is a
heartbeat; with /start, /fail or an exit status appended it is that.
"""

import asyncio
from collections.abc import Awaitable, Callable

from premblyd.features.watch.settings import Checkin as Settings
from premblyd.ground import loops
from premblyd.ground.errors import PremblydError
from premblyd.ground.httpclient import HttpClient, Request, Response
from premblyd.ground.telemetry import tell
from premblyd.ground.times import boot_s

AGAIN_S = 15.0  # after what failed: Healthchecks.io drops more than five signals a minute
TIMEOUT_S = 10.0
LOOKED_S = 60.0  # ago the queue may have been looked at, however long the period is
LAST_S = 3.0  # for the exit status, as a stop waits for it
OFF_S = 3600.0  # until the next look, where there is nobody to check in with: a reload wakes
HEARTBEAT, START, FAIL = "", "start", "fail"
NO_STORE = "webhooks can't be stored"
NO_LOOK = "nothing checks for due deliveries"
_STOPPED, _FAILED = "premblyd was stopped", "premblyd has ended by a fault; its log says which"
_IGNORED = "the service answers that it has ignored it: is the URL right?"


class Checkin:
    """Checks in: begin with `start`, then `run` as a loop, which `stop` ends, and `end` last."""

    def __init__(
        self, can_store: Callable[[], Awaitable[bool]], looked_at_s: Callable[[], float]
    ) -> None:
        """`can_store` finds out by a commit. `looked_at_s`: when the queue was looked at last, as
        `boot_s` counts."""
        self._can_store = can_store
        self._looked_at_s = looked_at_s
        self._settings: Settings | None = None
        self._client: HttpClient | None = None  # made when there is somebody to check in with
        self._starting: asyncio.Task[bool] | None = None
        self._wake = asyncio.Event()
        self._is_ending = False
        self._due_s = 0.0  # when the next heartbeat is due
        self._lack: str | None = None  # why the last one was not earned
        self._told: set[tuple[str, str]] = set()  # what the log has, until a heartbeat was sent

    def configure(self, settings: Settings | None) -> None:
        """Check in there from now on; None: nowhere."""
        if settings == self._settings:
            return
        self._settings = settings
        self._due_s = boot_s()
        self._told.clear()
        if settings is not None and self._client is None:
            self._client = HttpClient()
        self._wake.set()

    def start(self, settings: Settings | None) -> None:
        """Tell that the daemon starts. Nothing waits for that."""
        self.configure(settings)
        self._starting = asyncio.create_task(self._send(START))

    async def run(self) -> None:
        """Check in until `stop`."""
        if self._starting is not None:
            await self._starting  # it must not come after a heartbeat
        await loops.repeat(self._round, AGAIN_S, wake=self._wake, failed="checkin.failed")

    def stop(self) -> None:
        """Send no more heartbeats: the daemon takes no more work."""
        self._is_ending = True
        self._wake.set()

    async def end(self, _: object, error: BaseException | None, __: object) -> None:
        """Tell with which exit status the daemon ends. It is no good end where it could not work
        before."""
        if self._starting is None:
            return  # too early to be anybody's
        self._starting.cancel()
        await asyncio.gather(self._starting, return_exceptions=True)
        if error is not None:
            status = error.exit_code if isinstance(error, PremblydError) else 1
            await self._send(str(status), _FAILED, LAST_S)
        elif self._lack is not None:
            await self._send(FAIL, f"{_STOPPED}; before that, {self._lack}", LAST_S)
        else:
            await self._send("0", _STOPPED, LAST_S)
        if self._client is not None:
            self._client.close()

    async def _round(self) -> float | None:
        """Send the heartbeat that is due, if it is earned. In each period that ends without, tell
        that it failed: what passes by itself in the meantime needs nobody."""
        if self._is_ending:
            return None
        if self._settings is None:
            return OFF_S
        every_s = self._settings.every_ms / 1000
        now_s = boot_s()
        self._lack = await self._lacking(every_s)
        if self._lack is None and await self._send(HEARTBEAT):
            self._due_s = now_s + every_s
            return every_s
        if now_s >= self._due_s + every_s:
            self._due_s = now_s
            if self._lack is not None:
                self._tell("checkin.withheld", self._lack, reason=self._lack)
                await self._send(FAIL, self._lack)
        return min(AGAIN_S, every_s / 4)

    async def _lacking(self, every_s: float) -> str | None:
        """Return why a heartbeat is not earned; None: it is."""
        if not await self._can_store():
            return NO_STORE
        if boot_s() - self._looked_at_s() > min(every_s, LOOKED_S):
            return NO_LOOK
        return None

    async def _send(self, signal: str, text: str = "", timeout_s: float = TIMEOUT_S) -> bool:
        """Send a signal, if the service understands it. Return whether there is none to be sent
        any more."""
        settings, client = self._settings, self._client
        if settings is None or client is None or (signal and settings.signals == "none"):
            return True
        response = await client.send(
            _request(settings.url.reveal(), signal, text),
            timeout_s,
            ca_file=str(settings.ca_file) if settings.ca_file else None,
            proxy=settings.proxy.reveal() if settings.proxy else "",
        )
        name = signal or "heartbeat"
        if error := _error(response):
            status = response.status or None
            self._tell("checkin.not_sent", error, signal=name, http_status=status, error=error)
            return False
        tell("checkin.sent", signal=name)
        if signal == HEARTBEAT and self._told:
            self._told.clear()
            tell("checkin.resumed")
        return True

    def _tell(self, event: str, why: str, **fields: object) -> None:
        """Tell of a failure: in the log once, until a heartbeat was sent."""
        tell(event, is_logged=(event, why) not in self._told, **fields)
        self._told.add((event, why))


def _request(url: str, signal: str, text: str) -> Request:
    """Return the request for a signal. A heartbeat is a GET, which every service takes."""
    address, mark, query = url.partition("?")
    if signal:
        address = f"{address.rstrip('/')}/{signal}"
    if not text:
        return Request(address + mark + query, [], method="GET")
    return Request(address + mark + query, [("Content-Type", "text/plain")], text.encode())


def _error(response: Response) -> str | None:
    """Return why a signal has not arrived, in our words; None: it has."""
    if not 200 <= response.status < 300:
        return response.error or f"HTTP {response.status}"
    # Healthchecks.io's answer about a check that it does not know, or gets too often.
    return _IGNORED if response.body.startswith(b"OK (") else None
