"""Alerts: what they say, and when. The daemon looks for problems a few times a minute and runs the
alerts' hooks.

Begin with `TroubleWatch.look`. `find` asks the table of troubles, beside the loop; `AlertLog` keeps
what was sent, so that a restart repeats nothing.
"""

import asyncio
import secrets
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from typing import Any

from premblyd.config.hooks import CommandHook, ShellHook
from premblyd.config.models import Config
from premblyd.features.watch.settings import ALERTS, Alert, Trigger
from premblyd.features.watch.tables import Alert as Row
from premblyd.ground import jsontext, loops, times
from premblyd.ground.databases import DatabaseAddress, file_of
from premblyd.ground.errors import PremblydError, StoreUnavailableError
from premblyd.ground.telemetry import tell
from premblyd.ground.times import Clock
from premblyd.queue.jobs import Result
from premblyd.record.told import MARKS, Item, Situation
from premblyd.run.kinds import Invocation, Runners
from premblyd.store.connections import connect_read_only
from premblyd.store.engine import Statement, Transaction, param
from premblyd.store.states import AttemptOutcome
from premblyd.store.writer import Step, Writer

LOOK_EVERY_S = 20.0
MAX_PRINTED_CHARS = 500  # of a hook that failed: the end of the story is in its own log

# When each alert last reported each thing: a kind of trouble, or `kind subject`.
Sent = dict[tuple[str, str], int]


def thing(item: Item) -> str:
    """Return the name under which a reported item is remembered: its kind, and what it is about."""
    return f"{item.kind} {item.subject}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """An alert's message: the present items, of one kind or several."""

    alert: Alert
    items: Sequence[Item]
    host: str
    at_ms: int

    @property
    def title(self) -> str:
        """One line, such as an e-mail's subject."""
        if len(self.items) == 1:
            return f"premblyd on {self.host}: {self.items[0].text}"
        kinds = ", ".join(self.kinds)
        return f"premblyd on {self.host}: {len(self.items)} things need attention ({kinds})"

    @property
    def kinds(self) -> list[str]:
        """The kinds of trouble, the gravest first."""
        return list(dict.fromkeys(item.kind for item in self.items))

    @property
    def severity(self) -> str:
        return max(item.severity for item in self.items).word

    def text(self) -> str:
        """Return all of it, with what to do about each thing."""
        lines = [f"premblyd on {self.host} needs attention."]
        for item in self.items:
            lines += ["", f"{MARKS[item.severity]} {item.text}", f"   {item.remedy}"]
            lines.append(f"   {item.command}")
        lines += ["", f"Not repeated within {self.alert.every}."]
        lines += ["`premblyd status` shows the current state."]
        return "\n".join(lines) + "\n"

    def as_json(self) -> dict[str, Any]:
        """Return all of it for programs. `text` is what chat systems show."""
        return {
            "alert": self.alert.name,
            "host": self.host,
            "at": times.iso(self.at_ms),
            "severity": self.severity,
            "kinds": self.kinds,
            "title": self.title,
            "text": self.text(),
            "attention": [item.as_json() for item in self.items],
        }

    def invocation(self) -> Invocation:
        """Return how the alert's hook is run: with text on standard input, else with JSON."""
        is_text = isinstance(self.alert.hook, ShellHook | CommandHook)
        return Invocation(
            action=self.alert.name,
            id=f"{secrets.token_hex(16)}-{self.alert.name}",
            body=self.text().encode() if is_text else jsontext.dumps(self.as_json()),
            environment={
                "PREMBLYD_ALERT_NAME": self.alert.name,
                "PREMBLYD_ALERT_TITLE": self.title,
                "PREMBLYD_ALERT_SEVERITY": self.severity,
                "PREMBLYD_ALERT_KINDS": " ".join(self.kinds),
                "PREMBLYD_ALERT_HOST": self.host,
            },
        )


def find(
    settings: Config, situation: Situation, place: DatabaseAddress
) -> dict[Trigger, list[Item]]:
    """Return what the alerts are on. It reads the database, so not in the loop. Never raise
    because that can't be read: that is trouble, too."""
    try:
        with closing(connect_read_only(place)) as record:
            return _found(settings, replace(situation, record=record))
    except PremblydError as error:
        told = situation.store_error or str(error)
        return _found(settings, replace(situation, store_error=told))


def _found(settings: Config, situation: Situation) -> dict[Trigger, list[Item]]:
    # Here, as a daemon without alerts need not read the record, and the code for that takes a tenth
    # of a start.
    from premblyd.record import troubles

    return {
        trigger: troubles.items(
            replace(situation, disk_percent=trigger.percent, silent_ms=trigger.silent_ms),
            kinds=[trigger.kind],
        )
        for alert in ALERTS.of(settings)
        for trigger in alert.on
    }


def _of(alert: Alert, found: Mapping[Trigger, Sequence[Item]]) -> list[Item]:
    """Return what `alert` is to tell of, the gravest first: not that it could not be sent
    itself."""
    items = [
        item
        for trigger in alert.on
        for item in found[trigger]
        if item.needs_somebody and (item.kind, item.subject) != ("alert", alert.name)
    ]
    return sorted(items, key=lambda item: -item.severity)


class AlertLog:
    """Keeps when each alert last reported each problem, for as long as it is not to be repeated."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def read(self) -> "asyncio.Future[Sent]":
        """Return what was sent. Raise StoreUnavailableError when the database can't be used."""

        def operation(transaction: Transaction) -> Sent:
            return {(name, kind): at_ms for name, kind, at_ms in transaction.rows(_READ)}

        return self._writer.call(operation, Step.EVIDENCE)

    def keep(self, alert: Alert, told: Iterable[str], at_ms: int) -> "asyncio.Future[None]":
        """Keep that the alert reported `told`. Raise StoreUnavailableError when it can't be
        kept."""

        def operation(transaction: Transaction) -> None:
            transaction.change(_FORGET, name=alert.name, old_ms=at_ms - alert.every_ms)
            for kind in told:
                sent = {"name": alert.name, "kind": kind, "at_ms": at_ms}
                transaction.change(_KEEP, **sent, error=None, output=None)

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
_FORGET = Statement(
    Row.delete().where(
        Row.name == param("name"), (Row.kind == _NOT_SENT) | (Row.at_ms < param("old_ms"))
    )
)


class TroubleWatch:
    """Tells people of trouble by the hooks of `alerts`.

    A thing is a kind of trouble and what it is about, such as an action. It is reported when two
    looks in a row find it: so what comes together is gathered, and what passes by itself wakes
    nobody. Then it is not reported again within `every`. A hook that fails has reported nothing,
    and runs again after the next look.
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
        self._sent: Sent | None = None  # None: not read yet
        self._seen: set[tuple[str, str]] = set()  # there at the last look, by alert and thing

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
        sent = await self._read_sent()
        situation = Situation(
            record=None,
            now_ms=now_ms,
            settings=settings,
            path=file_of(self._place),
            store_error=self._store_error(),
            started_at_ms=self._started_at_ms,
        )
        found = await asyncio.to_thread(find, settings, situation, self._place)
        seen_before, self._seen = self._seen, set()
        due: list[Message] = []
        for alert in ALERTS.of(settings):
            items = _of(alert, found)
            self._seen |= {(alert.name, thing(item)) for item in items}
            lasting = [item for item in items if (alert.name, thing(item)) in seen_before]
            if self._is_due(alert, lasting, sent, now_ms):
                host = socket.gethostname()
                due.append(Message(alert=alert, items=lasting, host=host, at_ms=now_ms))
        await asyncio.gather(*(self._send(message, sent) for message in due))

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
        # Perhaps that is what it reported; it is remembered until a restart.
        with suppress(StoreUnavailableError):
            await self._log.keep(alert, told, message.at_ms)

    async def _failed(self, message: Message, result: Result) -> None:
        alert = message.alert
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

    async def _read_sent(self) -> Sent:
        """Return what was sent; nothing as long as that can't be read."""
        if self._sent is None:
            try:
                self._sent = await self._log.read()
            except StoreUnavailableError:
                self._sent = {}
        return self._sent
