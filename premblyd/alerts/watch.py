"""The daemon's watch: it looks for trouble a few times a minute and runs the alerts' hooks."""

import asyncio
import socket
from collections.abc import Callable

from premblyd.alerts.message import Message
from premblyd.clock import Clock
from premblyd.config.alerts import Alert
from premblyd.config.models import Config
from premblyd.databases import Place
from premblyd.errors import StoreUnavailableError
from premblyd.hooks.kinds import Runners
from premblyd.occurrences import AlertFailed, AlertSent, AlertsFailed
from premblyd.record.trouble import Item
from premblyd.store.alertlog import AlertLog, Sent
from premblyd.store.models import AttemptOutcome
from premblyd.telemetry import tell

LOOK_EVERY_S = 20.0
AGAIN_MS = 60_000  # after a hook that failed


class Watch:
    """Tells people of trouble by the hooks of `alerts`.

    A kind of trouble is told when it is there at two looks in a row: so what comes together is
    gathered, and what passes by itself wakes nobody. Then it is not told again within `every`. A
    hook that fails is run again soon, and has told nobody.
    """

    def __init__(
        self,
        log: AlertLog,
        runners: Runners,
        clock: Clock,
        place: Place,
        *,
        store_error: Callable[[], str | None],
        is_first: Callable[[], bool] = lambda: True,
    ) -> None:
        """`is_first`: whether this daemon is the one that looks, where several share a database."""
        self._log = log
        self._runners = runners
        self._clock = clock
        self._place = place
        self._store_error = store_error
        self._is_first = is_first
        self._started_at_ms = clock.now_ms()
        self._host = socket.gethostname()
        self._sent: Sent | None = None  # None: not read yet
        self._seen: set[tuple[str, str]] = set()  # by alert and kind: there at the last look
        self._not_before_ms: dict[str, int] = {}  # by alert whose hook failed

    def configure(self, settings: Config) -> None:
        """Use these alerts from the next look on."""
        self._settings = settings
        if settings.alerts:
            # Here, as a daemon without alerts need not read the record, and the code for that takes
            # a tenth of a start.
            from premblyd.alerts import troubles

            self._find, self._of_alert = troubles.find, troubles.of_alert

    async def run(self) -> None:
        """Look until the daemon ends."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                if self._settings.alerts:
                    await self.look()
            # A look that fails must not end the daemon: webhooks go on coming.
            except Exception as error:  # noqa: BLE001
                tell(AlertsFailed(cause=error))

    async def look(self) -> None:
        """Look once, and run the hooks of the alerts that are due; or stand by."""
        if not self._is_first():
            self._sent = None  # the one that looks meanwhile keeps what it sends
            return
        settings, now_ms = self._settings, self._clock.now_ms()
        sent = await self._read_sent()
        kinds = {trigger.kind for alert in settings.alerts for trigger in alert.on}
        found = await asyncio.to_thread(
            self._find,
            settings,
            self._place,
            now_ms,
            kinds=kinds,
            store_error=self._store_error(),
        )
        seen_before, self._seen = self._seen, set()
        due: list[Message] = []
        for alert in settings.alerts:
            items = self._of_alert(alert, found, started_at_ms=self._started_at_ms)
            self._seen |= {(alert.name, item.kind) for item in items}
            lasting = [item for item in items if (alert.name, item.kind) in seen_before]
            if self._is_due(alert, lasting, sent, now_ms):
                due.append(Message(alert=alert, items=lasting, host=self._host, at_ms=now_ms))
        await asyncio.gather(*(self._send(message, sent) for message in due))

    def _is_due(self, alert: Alert, items: list[Item], sent: Sent, now_ms: int) -> bool:
        """Return whether any of `items` is of a kind that was not told within `every`."""
        # A time further off than it is ever set was set before the clock was set back.
        if 0 < self._not_before_ms.get(alert.name, 0) - now_ms <= AGAIN_MS:
            return False
        told_ms = [sent.get((alert.name, item.kind), 0) for item in items]
        # A time that is still to come was kept before the clock was set back.
        return any(not 0 <= now_ms - at_ms < alert.every_ms for at_ms in told_ms)

    async def _send(self, message: Message, sent: Sent) -> None:
        alert = message.alert
        result = await self._runners.run(alert.hook, message.job())
        if result.outcome is not AttemptOutcome.SUCCEEDED:
            self._not_before_ms[alert.name] = message.at_ms + AGAIN_MS
            tell(
                AlertFailed(
                    alert=alert.name,
                    kinds=message.kinds,
                    outcome=str(result.outcome),
                    exit_code=result.exit_code,
                    http_status=result.http_status,
                    error=result.error,
                )
            )
            return
        tell(AlertSent(alert=alert.name, kinds=message.kinds, items=len(message.items)))
        sent.update({(alert.name, kind): message.at_ms for kind in message.kinds})
        try:
            await self._log.keep(alert.name, message.kinds, message.at_ms)
        except StoreUnavailableError:  # perhaps what it told of; it is remembered until a restart
            return

    async def _read_sent(self) -> Sent:
        """Return what was sent; nothing as long as that can't be read."""
        if self._sent is None:
            try:
                self._sent = await self._log.read()
            except StoreUnavailableError:
                self._sent = {}
        return self._sent
