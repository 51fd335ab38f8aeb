"""What needs somebody's attention: each thing with what to do about it.

Kinds of trouble are functions in CHECKS: each looks at the record and yields items. They must be
quick beside a million events, so they ask indexes and roll-ups, and count no event.
"""

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from peewee import Database, fn

from premblyd import times
from premblyd.config.models import Config
from premblyd.model.states import AttemptOutcome
from premblyd.model.tables import AlertFailure, Attempt, AttemptHour, Delivery, Event, EventHour
from premblyd.model.tables import Rejection as RejectionTable
from premblyd.prembly.codes import MEANINGS
from premblyd.privacy.identifiers import is_code
from premblyd.queue.inbox import Noise
from premblyd.queue.rollups import HOUR_MS, hour_of
from premblyd.record import deliverytrouble, fetching, hosts, inquirytrouble, trouble
from premblyd.record.reconciling import open_downtimes
from premblyd.record.trouble import DISK_PERCENT, MAX_ITEMS, Item, Severity, Situation, Target
from premblyd.routing import Routing

DAY_MS = 24 * HOUR_MS
FAILING = 3  # attempts of an action in a row, and no success after them
LAST_ATTEMPTS = 400  # of all actions: where failures in a row are looked for
BURST = 20  # rejections in an hour
NOISE_BURST = 300  # of what anybody at all can cause: a scan for paths
WALLET_EMPTY = "03"
GRACE_MS = 60_000  # what is this new, `reconcile` leaves out: it may be on its way
DOWNTIME_DAYS = 30  # what is older was lived with


Check = Callable[[Situation], Iterator[Item]]


def situation(
    database: Database,
    now_ms: int,
    *,
    settings: Config | None = None,
    path: Path | None = None,
    since_ms: int | None = None,
    disk_percent: int = DISK_PERCENT,
    store_error: str | None = None,
) -> Situation:
    """Return what is to be looked at; by default the last day."""
    return Situation(
        database=database,
        now_ms=now_ms,
        since_ms=now_ms - DAY_MS if since_ms is None else since_ms,
        settings=settings,
        path=path,
        disk_percent=disk_percent,
        store_error=store_error,
    )


def items(situation: Situation, *, kinds: Collection[str] | None = None) -> list[Item]:
    """Return what needs attention, the gravest first; with `kinds`, only what is of these. Raise
    StoreUnreadableError when the record can't be read."""
    found = [
        item
        for kind, check in CHECKS.items()
        if kinds is None or kind in kinds
        for item in check(situation)
    ]
    return sorted(found, key=lambda item: -item.severity)


def _disk(situation: Situation) -> Iterator[Item]:
    if situation.path is not None:
        yield from disk(situation.path, situation.disk_percent)


def disk(path: Path, percent: int) -> Iterator[Item]:
    """Yield that the disk of the database at `path` is full to `percent`, if it is."""
    folder = path.absolute().parent
    try:
        space = os.statvfs(folder)
    except OSError:
        return
    used = space.f_blocks - space.f_bfree
    usable = used + space.f_bavail
    used_percent = -(-100 * used // usable) if usable else 100  # as df has it: rounded up
    if used_percent >= percent:
        free_mib = space.f_bavail * space.f_frsize >> 20
        yield Item(
            kind="disk",
            severity=Severity.URGENT if used_percent >= (percent + 100) / 2 else _WARNING,
            text=f"The database's disk is {used_percent} % full: {free_mib:,} MiB are free.",
            remedy="Make room. On a full disk webhooks are answered 503, and most are sent once.",
            command=f"df -h {folder}",
            target=Target(page=""),
            count=1,
        )


def _failing(situation: Situation) -> Iterator[Item]:
    """Actions whose last attempts all failed."""
    for action, count in sorted(_failures_in_a_row(situation).items()):
        yield Item(
            kind="failing",
            severity=_WARNING,
            text=f"{action} keeps failing: its last {trouble.counted(count, 'attempt', 'attempts')}"
            " failed, and none has succeeded since.",
            remedy="See what the hook said, and whether its target is up.",
            command=f"premblyd deliveries --action {action}",
            target=Target(page="deliveries", action=action),
            count=count,
        )


def _failures_in_a_row(situation: Situation) -> dict[str, int]:
    database, since_ms = situation.database, situation.since_ms
    last = (
        Attempt.select(Attempt.delivery, Attempt.outcome, Attempt.finished_at_ms)
        .order_by(Attempt.id.desc())
        .limit(LAST_ATTEMPTS)
        .alias("last")
    )
    query = (
        Delivery.select(Delivery.action, last.c.outcome, last.c.finished_at_ms)
        .join(last, on=(last.c.delivery_id == Delivery.id))
        .order_by(last.c.finished_at_ms.desc())
    )
    failures: dict[str, int] = {}
    succeeded: set[str] = set()
    for action, outcome, finished_at_ms in fetching.plain_tuples(database, query):
        if not isinstance(finished_at_ms, int) or finished_at_ms < since_ms:
            continue
        if outcome == AttemptOutcome.SUCCEEDED:
            succeeded.add(action)
        elif outcome in _FAILED and action not in succeeded:
            failures[action] = failures.get(action, 0) + 1
    # An action that runs rarely is not among the last attempts of busy ones.
    for action, outcomes in _attempts_by_outcome(situation).items():
        if action not in succeeded and AttemptOutcome.SUCCEEDED not in outcomes:
            failed = sum(outcomes.get(outcome, 0) for outcome in _FAILED)
            failures[action] = max(failed, failures.get(action, 0))
    return {action: count for action, count in failures.items() if count >= FAILING}


def _attempts_by_outcome(situation: Situation) -> dict[str, dict[str, int]]:
    query = (
        AttemptHour.select(AttemptHour.action, AttemptHour.outcome, fn.SUM(AttemptHour.attempts))
        .where(AttemptHour.hour_ms >= hour_of(situation.since_ms))
        .group_by(AttemptHour.action, AttemptHour.outcome)
    )
    found: dict[str, dict[str, int]] = {}
    for action, outcome, count in fetching.plain_tuples(situation.database, query):
        found.setdefault(action, {})[outcome] = count
    return found


def _unmatched(situation: Situation) -> Iterator[Item]:
    query = (
        EventHour.select(EventHour.response_code, fn.SUM(EventHour.unmatched))
        .where(EventHour.hour_ms >= hour_of(situation.since_ms), EventHour.unmatched > 0)
        .group_by(EventHour.response_code)
    )
    routing = Routing(situation.settings.actions) if situation.settings else None
    for code, count in trouble.largest(dict(fetching.plain_tuples(situation.database, query))):
        # Where an action is for the code, its `types` or `when` left these out: that was wanted.
        is_meant = routing is not None and bool(routing.actions_for_code(code or None))
        yield Item(
            kind="unmatched",
            severity=Severity.NOTICE if is_meant else _WARNING,
            text=f"{trouble.counted(count, 'event', 'events')} with {_named(code)} matched no"
            " action:"
            + (
                " `types` or `when` left out what is for their code, or it was added later."
                if is_meant
                else " stored, and nothing ran."
            ),
            remedy="Nothing, if that is what you want; else"
            " `premblyd replay --action NAME --since 24h --new`."
            if is_meant
            else "Add an action for it (`default` takes every code that no other names), reload,"
            " then `premblyd replay --action NAME --since 24h --new`.",
            command=f"premblyd events --since 24h{_option(code)}",
            target=Target(page="events", code=_filter(code), since_ms=situation.since_ms),
            count=count,
        )


def _new_codes(situation: Situation) -> Iterator[Item]:
    """Codes that the record has for the first time. In a record younger than a day every code is
    new, so only undocumented ones count."""
    first_ids = _first_event_of_each_code(situation.database)
    query = Event.select(Event.id, Event.received_at_ms).where(
        Event.id.in_(list(first_ids.values()))
    )
    first_ms = dict(fetching.plain_tuples(situation.database, query))
    oldest = min((at for at in first_ms.values() if isinstance(at, int)), default=0)
    is_young = oldest >= situation.since_ms
    new = [
        code
        for code, first_id in first_ids.items()
        if isinstance(at := first_ms.get(first_id), int)
        and at >= situation.since_ms
        and not (is_young and code in MEANINGS)
    ]
    for code in sorted(new)[:MAX_ITEMS]:
        known = f", {MEANINGS[code]}" if code in MEANINGS else ", which Prembly does not document"
        yield Item(
            kind="new_code",
            severity=Severity.NOTICE if code in MEANINGS else _WARNING,
            text=f"The first event with {_named(code)}{known}.",
            remedy="Look at the event, and decide which action should run for it.",
            command=f"premblyd events{_option(code)}" if is_code(code) else "premblyd events",
            target=Target(page="events", code=_filter(code)),
            count=1,
        )


def _first_event_of_each_code(database: Database) -> dict[str, int]:
    """Return the first event's number by response code: two seeks in the index for each code."""
    found = fetching.by_sql(database, _FIRST_OF_CODES, MAX_CODES)
    return {str(code): first_id for code, first_id in found}


def _wallet(situation: Situation) -> Iterator[Item]:
    """Code 03, unless a verification was paid for after it."""
    last = Event.select(Event.id, Event.received_at_ms).where(Event.response_code == WALLET_EMPTY)
    found = fetching.plain_tuples(situation.database, last.order_by(Event.id.desc()).limit(1))
    if not found or not isinstance(found[0][1], int) or found[0][1] < situation.since_ms:
        return
    later = (
        Event.select(Event.outcome)
        .where(Event.response_code == "00", Event.id > found[0][0])
        .order_by(Event.id.desc())
        .limit(LAST_ATTEMPTS)
    )
    if any(outcome != "unknown" for (outcome,) in fetching.plain_tuples(situation.database, later)):
        return
    query = EventHour.select(fn.COALESCE(fn.SUM(EventHour.events), 0)).where(
        EventHour.hour_ms >= hour_of(situation.since_ms), EventHour.response_code == WALLET_EMPTY
    )
    [(count,)] = fetching.plain_tuples(situation.database, query)
    yield Item(
        kind="wallet",
        severity=Severity.URGENT,
        text=f"Your Prembly wallet is empty (code 03), last at"
        f" {times.for_people(found[0][1])} UTC: Prembly verifies nobody.",
        remedy="Fund the wallet in Prembly's dashboard.",
        command="premblyd events --since 24h --code 03",
        target=Target(page="events", code=WALLET_EMPTY, since_ms=situation.since_ms),
        count=max(1, count),
    )


def _rejections(situation: Situation) -> Iterator[Item]:
    since_ms = situation.now_ms - HOUR_MS
    query = (
        RejectionTable.select(RejectionTable.reason, fn.COUNT(RejectionTable.id))
        .where(RejectionTable.at_ms >= since_ms)
        .group_by(RejectionTable.reason)
    )
    for reason, count in trouble.largest(dict(fetching.plain_tuples(situation.database, query))):
        if count >= (NOISE_BURST if reason in _NOISE else BURST):
            yield Item(
                kind="rejections",
                severity=_WARNING,
                text=f"{count:,} requests were refused in the last hour: {reason}.",
                remedy=_REJECTED.get(reason, "See where they come from."),
                command=f"premblyd rejections --since 1h --reason '{reason}'",
                target=Target(page="rejections", reason=reason, since_ms=since_ms),
                count=count,
            )


def _downtimes(situation: Situation) -> Iterator[Item]:
    """Times in which no webhook could be stored, where Prembly can be asked what was lost."""
    settings = situation.settings
    if settings is None or settings.prembly is None or settings.prembly.api_key is None:
        return
    since_ms = situation.now_ms - DOWNTIME_DAYS * DAY_MS
    for downtime in open_downtimes(situation.database, since_ms=since_ms)[:MAX_ITEMS]:
        start, end = (times.for_people(ms) for ms in (downtime.from_ms, downtime.until_ms))
        yield Item(
            kind="downtime",
            severity=_WARNING,
            text=f"From {start} to {end} UTC no webhook could be stored.",
            remedy="Prembly sends most webhooks once: ask it for those that never came"
            + (", in a minute." if situation.now_ms - downtime.until_ms < GRACE_MS else "."),
            command=f"premblyd reconcile --since {downtime.since} --store",
            target=Target(page=""),
            count=1,
        )


def _alerts(situation: Situation) -> Iterator[Item]:
    """Alerts whose last hook failed, so that nobody was told."""
    query = AlertFailure.select(AlertFailure.name, AlertFailure.error, AlertFailure.output).where(
        AlertFailure.failed_at_ms >= situation.since_ms
    )
    settings = situation.settings
    names = {alert.name for alert in settings.alerts} if settings else None
    for name, error, output in fetching.plain_tuples(situation.database, query):
        if names is not None and name not in names:
            continue
        printed = f" It printed: {' '.join(output.split())}" if output else ""
        yield Item(
            kind="alert",
            severity=_WARNING,
            text=f"The alert {name} could not be sent: {error or 'its hook failed'}.{printed}",
            remedy="Nobody was told of trouble. Mend its hook, and see that it works.",
            command=f"sudo premblyd try --alert {name}",
            target=Target(page=""),
            count=1,
            about=name,
        )


def _named(code: str) -> str:
    if not code:
        return "no response code"
    return f"code {code}" if is_code(code) else "a code of another shape than Prembly's"


def _option(code: str) -> str:
    shown = _filter(code)
    return f" --code {shown}" if shown else ""


def _filter(code: str) -> str | None:
    """Return how lists are filtered by a code; None: a text that a sender chose is not shown."""
    if not code:
        return "missing"
    return code if is_code(code) else None


MAX_CODES = 300  # distinct ones that are looked at
_FIRST_OF_CODES = """
WITH RECURSIVE codes (code) AS (
    SELECT min(response_code) FROM event
    UNION ALL
    SELECT (SELECT min(response_code) FROM event WHERE response_code > code)
    FROM codes WHERE code IS NOT NULL
)
SELECT code, (SELECT min(id) FROM event WHERE response_code = code) FROM codes
WHERE code IS NOT NULL LIMIT ?
"""
_WARNING = Severity.WARNING
_FAILED = (AttemptOutcome.FAILED, AttemptOutcome.TIMED_OUT)
_NOISE = frozenset(Noise)
_WRONG_KEY = (
    "If they come from Prembly, the key or the endpoint's scheme is wrong, and its webhooks are"
    " being lost: compare the public key in Prembly's dashboard."
)
_REJECTED = {
    "wrong signature": _WRONG_KEY,
    "missing signature": _WRONG_KEY,
    "malformed signature": _WRONG_KEY,
    "body too large": "Raise `max_body` if Prembly sent them.",
    "address not allowed": "Compare `allow_ips` with the addresses.",
}
# Each kind of trouble, and what looks for it.
CHECKS: Mapping[str, Check] = {
    "database": trouble.database,
    "disk": _disk,
    "host": hosts.away,
    "contradicted": inquirytrouble.contradicted,
    "doubted": inquirytrouble.doubted,
    "wallet": _wallet,
    "prembly": inquirytrouble.prembly,
    "late": deliverytrouble.late,
    "failing": _failing,
    "held": deliverytrouble.held,
    "dead": deliverytrouble.dead,
    "downtime": _downtimes,
    "rejections": _rejections,
    "given_up": inquirytrouble.given_up,
    "unmatched": _unmatched,
    "new_code": _new_codes,
    "alert": _alerts,
}
