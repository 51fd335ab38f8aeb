"""The daemon's watch: it looks for problems a few times a minute and runs the alerts' hooks.

Begin with `TroubleWatch.look`. `find` asks the table of troubles, beside the loop; `AlertLog` keeps
what was sent, so that a restart repeats nothing.
"""

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace

from premblyd.config.models import Config
from premblyd.features.watch.message import Message, thing
from premblyd.features.watch.settings import ALERTS, Alert, Trigger
from premblyd.features.watch.tables import Alert as Row
from premblyd.ground import loops
from premblyd.ground.databases import DatabaseAddress, file_of
from premblyd.ground.errors import PremblydError, StoreUnavailableError
from premblyd.ground.telemetry import tell
from premblyd.ground.times import Clock
from premblyd.queue.jobs import Result
from premblyd.record.told import MAX_ITEMS, Item, Situation
from premblyd.run.kinds import Runners
from premblyd.store.connections import connect_read_only
from premblyd.store.engine import Statement, Transaction, param
from premblyd.store.states import AttemptOutcome
from premblyd.store.writer import Step, Writer

LOOK_EVERY_S = 20.0
AGAIN_MS = 60_000  # after a hook that failed
MAX_PRINTED_CHARS = 500  # of a hook that failed: the end of the story is in its own log

# When each alert last reported each thing: a kind of trouble, or `kind subject`.
Sent = dict[tuple[str, str], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Troubles:
    """What one look has found."""

    items: Mapping[Trigger, Sequence[Item]]
    is_read: bool  # the record was: what is not among `items` is not there
    can_store: bool

    def of(self, alert: Alert) -> list[Item]:
        """Return what `alert` is to tell of, the gravest first: not that it could not be sent
        itself."""
        items = [
            item
            for trigger in alert.on
            for item in self.items[trigger]
            if item.needs_somebody and (item.kind, item.subject) != ("alert", alert.name)
        ]
        return sorted(items, key=lambda item: -item.severity)

    def can_tell_that_over(self, kind: str) -> bool:
        """Return whether an absent problem of `kind` has ended: some kinds only get old, and
        nothing is known while the record can't be read."""
        from premblyd.record import troubles

        [row] = [row for row in troubles.table() if row.kind == kind]
        is_known = self.is_read or not row.reads_record
        return row.passes and is_known and (kind != "silent" or self.can_store)


def find(
    settings: Config,
    place: DatabaseAddress,
    now_ms: int,
    *,
    started_at_ms: int,
    store_error: str | None,
) -> Troubles:
    """Look for what the alerts are on. It reads the database, so not in the loop. Never raise
    because that can't be read: that is trouble, too."""
    situation = Situation(
        record=None,
        now_ms=now_ms,
        settings=settings,
        path=file_of(place),
        store_error=store_error,
        started_at_ms=started_at_ms,
    )
    try:
        with closing(connect_read_only(place)) as record:
            return _find_items(settings, replace(situation, record=record))
    except PremblydError as error:
        return _find_items(settings, replace(situation, store_error=store_error or str(error)))


def _find_items(settings: Config, situation: Situation) -> Troubles:
    # Here, as a daemon without alerts need not read the record, and the code for that takes a tenth
    # of a start.
    from premblyd.record import troubles

    return Troubles(
        items={
            trigger: troubles.items(
                replace(situation, disk_percent=trigger.percent, silent_ms=trigger.silent_ms),
                kinds=[trigger.kind],
            )
            for alert in ALERTS.of(settings)
            for trigger in alert.on
        },
        is_read=situation.record is not None,
        can_store=situation.store_error is None,
    )


class AlertLog:
    """Keeps when each alert last reported each problem, until the problem ends."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def read(self) -> "asyncio.Future[Sent]":
        """Return what was sent. Raise StoreUnavailableError when the database can't be used."""

        def operation(transaction: Transaction) -> Sent:
            return {(name, kind): at_ms for name, kind, at_ms in transaction.rows(_READ)}

        return self._writer.call(operation, Step.EVIDENCE)

    def keep(
        self, name: str, told: Iterable[str], over: Iterable[str], at_ms: int
    ) -> "asyncio.Future[None]":
        """Keep that the alert `name` reported `told`, and that what is `over` has ended. Raise
        StoreUnavailableError when it can't be kept."""

        def operation(transaction: Transaction) -> None:
            for kind in told:
                sent = {"name": name, "kind": kind, "at_ms": at_ms}
                transaction.change(_KEEP, **sent, error=None, output=None)
            for kind in (*over, _NOT_SENT):
                transaction.change(_FORGET, name=name, kind=kind)

        return self._writer.call(operation, Step.EVIDENCE)

    def keep_failure(
        self, name: str, at_ms: int, error: str | None, output: str | None
    ) -> "asyncio.Future[None]":
        """Keep that the alert `name` could not be sent, until it is sent. Raise
        StoreUnavailableError when it can't be kept."""

        def operation(transaction: Transaction) -> None:
            failed = {"name": name, "kind": _NOT_SENT, "at_ms": at_ms}
            transaction.change(_KEEP, **failed, error=error, output=output)

        return self._writer.call(operation, Step.EVIDENCE)


_NOT_SENT = ""  # the kind of the row that says so
_READ = Statement(Row.select(Row.name, Row.kind, Row.at_ms).where(Row.kind != _NOT_SENT))
_VALUES = {Row.at_ms: param("at_ms"), Row.error: param("error"), Row.output: param("output")}
_KEEP = Statement(
    Row.insert({Row.name: param("name"), Row.kind: param("kind"), **_VALUES}).on_conflict(
        conflict_target=[Row.name, Row.kind], update=_VALUES
    )
)
_FORGET = Statement(Row.delete().where(Row.name == param("name"), Row.kind == param("kind")))


class TroubleWatch:
    """Tells people of trouble by the hooks of `alerts`.

    A thing is a kind of trouble and what it is about, such as an action. It is reported when two
    looks in a row find it: so what comes together is gathered, and what passes by itself wakes
    nobody. Then it is not reported again within `every`. What two looks in a row no longer find is
    resolved, and that is reported once. A hook that fails has reported nothing, and runs again
    soon.
    """

    def __init__(
        self,
        log: AlertLog,
        runners: Runners,
        clock: Clock,
        place: DatabaseAddress,
        *,
        store_error: Callable[[], str | None],
        is_leader: Callable[[], bool] = lambda: True,
    ) -> None:
        """`is_leader`: whether this daemon is the one that looks, where several share one."""
        self._log = log
        self._runners = runners
        self._clock = clock
        self._place = place
        self._store_error = store_error
        self._is_leader = is_leader
        self._started_at_ms = clock.now_ms()
        self._host = socket.gethostname()
        self._sent: Sent | None = None  # None: not read yet
        self._open: set[tuple[str, str]] = set()  # by alert and thing: told, and not yet resolved
        self._seen: set[tuple[str, str]] = set()  # there at the last look
        self._gone: set[tuple[str, str]] = set()  # of the open ones, not there at the last look
        self._not_before_ms: dict[str, int] = {}  # by alert whose hook failed

    def configure(self, settings: Config) -> None:
        """Use these alerts from the next look on."""
        self._settings = settings

    async def run(self) -> None:
        """Look until the daemon ends."""
        await loops.repeat(
            self._round, LOOK_EVERY_S, first_s=LOOK_EVERY_S, failed="alert.look_failed"
        )

    async def _round(self) -> float:
        if ALERTS.of(self._settings):
            await self.look()
        return LOOK_EVERY_S

    async def look(self) -> None:
        """Look once, and run the hooks of the alerts that are due; or stand by."""
        if not self._is_leader():
            self._sent = None  # the one that looks meanwhile keeps what it sends
            return
        settings, now_ms = self._settings, self._clock.now_ms()
        sent = await self._read_sent(now_ms)
        found = await asyncio.to_thread(
            find,
            settings,
            self._place,
            now_ms,
            started_at_ms=self._started_at_ms,
            store_error=self._store_error(),
        )
        seen_before, self._seen = self._seen, set()
        gone_before, self._gone = self._gone, set()
        due: list[Message] = []
        for alert in ALERTS.of(settings):
            items = found.of(alert)
            self._seen |= {(alert.name, thing(item)) for item in items}
            lasting = [item for item in items if (alert.name, thing(item)) in seen_before]
            gone = self._gone_of(alert, items, found)
            self._gone |= gone
            over = sorted(told for name, told in gone & gone_before)
            if over or self._is_due(alert, lasting, sent, now_ms):
                host = self._host
                due.append(Message(alert=alert, items=lasting, over=over, host=host, at_ms=now_ms))
        due = [message for message in due if self._may_run(message.alert, now_ms)]
        await asyncio.gather(*(self._send(message, sent) for message in due))

    def _gone_of(self, alert: Alert, items: list[Item], found: Troubles) -> set[tuple[str, str]]:
        """Return what `alert` has reported and is no longer there."""
        counts = Counter(item.kind for item in items)
        here = {thing(item) for item in items}
        judged = {
            trigger.kind
            for trigger in alert.on
            # Of a full list, what is not in it may be there.
            if counts[trigger.kind] < MAX_ITEMS and found.can_tell_that_over(trigger.kind)
        }
        return {
            (name, told)
            for name, told in self._open
            if name == alert.name and told not in here and told.partition(" ")[0] in judged
        }

    def _may_run(self, alert: Alert, now_ms: int) -> bool:
        # A time further off than it is ever set was set before the clock was set back.
        return not 0 < self._not_before_ms.get(alert.name, 0) - now_ms <= AGAIN_MS

    def _is_due(self, alert: Alert, items: list[Item], sent: Sent, now_ms: int) -> bool:
        """Return whether any of `items` was not told within `every`."""
        told_ms = [sent.get((alert.name, thing(item)), 0) for item in items]
        # A time that is still to come was kept before the clock was set back.
        return any(not 0 <= now_ms - at_ms < alert.every_ms for at_ms in told_ms)

    async def _send(self, message: Message, sent: Sent) -> None:
        alert = message.alert
        result = await self._runners.run(alert.hook, message.invocation())
        if result.outcome is not AttemptOutcome.SUCCEEDED:
            await self._failed(message, result)
            return
        tell("alert.sent", alert=alert.name, kinds=message.kinds, items=len(message.items))
        told = {thing(item) for item in message.items}
        sent.update({(alert.name, each): message.at_ms for each in told})
        self._open |= {(alert.name, each) for each in told}
        self._open -= {(alert.name, each) for each in message.over}
        # Perhaps that is what it reported; it is remembered until a restart.
        with suppress(StoreUnavailableError):
            await self._log.keep(alert.name, told, message.over, message.at_ms)

    async def _failed(self, message: Message, result: Result) -> None:
        alert = message.alert
        self._not_before_ms[alert.name] = message.at_ms + AGAIN_MS
        tell(
            "alert.failed",
            alert=alert.name,
            kinds=message.kinds,
            outcome=str(result.outcome),
            exit_code=result.exit_code,
            http_status=result.http_status,
            error=result.error,
        )
        printed = result.output[:MAX_PRINTED_CHARS] if result.output else None
        with suppress(StoreUnavailableError):  # the log has it
            await self._log.keep_failure(alert.name, message.at_ms, result.error, printed)

    async def _read_sent(self, now_ms: int) -> Sent:
        """Return what was sent; nothing as long as that can't be read."""
        if self._sent is None:
            try:
                self._sent = await self._log.read()
            except StoreUnavailableError:
                self._sent = {}
            # What lasts is reported again each `every`: what was reported long before has ended.
            every_ms = {alert.name: alert.every_ms for alert in ALERTS.of(self._settings)}
            self._open = {
                (name, told)
                for (name, told), at_ms in self._sent.items()
                if 0 <= now_ms - at_ms < 2 * every_ms.get(name, 0)
            }
        return self._sent
