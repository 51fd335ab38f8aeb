"""Trouble of what comes: nothing does, it is refused, has a new code, or matches no action."""

from collections.abc import Iterator

from peewee import Database, fn

from premblyd import times
from premblyd.model.tables import Event, EventHour, Rejection
from premblyd.prembly.payload import CODES
from premblyd.privacy.identifiers import is_code
from premblyd.queue.inbox import ConnectionFault
from premblyd.queue.rollups import hour_of
from premblyd.record import fetching, reading
from premblyd.record.troubles.trouble import (
    MAX_ITEMS,
    Item,
    Severity,
    Situation,
    Target,
    Trouble,
    largest,
)
from premblyd.routing import Routing
from premblyd.times import HOUR_MS
from premblyd.words import counted

BURST = 20  # rejections in an hour
NOISE_BURST = 300  # of what anybody at all can cause: a scan for paths
MAX_CODES = 300  # distinct ones that are looked at
_NOISE = frozenset(ConnectionFault)
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


def _silent(situation: Situation) -> Iterator[Item]:
    """Yield that nothing came from Prembly, while it could be stored."""
    if situation.silent_ms is None or situation.store_error is not None:
        return
    last_ms = reading.last_event_of_prembly_ms(situation.database)
    if situation.now_ms - (last_ms or situation.started_at_ms) >= situation.silent_ms:
        last = f"since {times.for_people(last_ms)} UTC" if last_ms else "yet"
        yield Item(
            text=f"No event has come {last}.",
            remedy="Is the URL in Prembly's dashboard still right, and does it reach this machine?"
            " `premblyd rejections` shows what was refused, `premblyd reconcile` what is missing.",
            command="premblyd events --limit 5",
            target=Target(page="events"),
        )


def _rejections(situation: Situation) -> Iterator[Item]:
    since_ms = situation.now_ms - HOUR_MS
    query = (
        Rejection.select(Rejection.reason, fn.COUNT(Rejection.id))
        .where(Rejection.at_ms >= since_ms)
        .group_by(Rejection.reason)
    )
    for reason, count in largest(dict(fetching.plain_tuples(situation.database, query))):
        if count >= (NOISE_BURST if reason in _NOISE else BURST):
            yield Item(
                text=f"{count:,} requests were refused in the last hour: {reason}.",
                remedy=_REJECTED.get(reason, "See where they come from."),
                target=Target(page="rejections", reason=reason, since_ms=since_ms),
                count=count,
            )


def _unmatched(situation: Situation) -> Iterator[Item]:
    query = (
        EventHour.select(EventHour.response_code, fn.SUM(EventHour.unmatched))
        .where(EventHour.hour_ms >= hour_of(situation.since_ms), EventHour.unmatched > 0)
        .group_by(EventHour.response_code)
    )
    routing = Routing(situation.settings.actions) if situation.settings else None
    for code, count in largest(dict(fetching.plain_tuples(situation.database, query))):
        # Where an action is for the code, its `types` or `when` left these out: that was wanted.
        is_meant = routing is not None and bool(routing.actions_for_code(code or None))
        yield Item(
            severity=Severity.NOTICE if is_meant else Severity.WARNING,
            text=f"{counted(count, 'event')} with {_named(code)} matched no action:"
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
            target=Target(page="events", code=_filter(code), since_ms=situation.since_ms),
            count=count,
        )


def _new_code(situation: Situation) -> Iterator[Item]:
    """Yield codes that the record has for the first time. In a record younger than a day every code
    is new, so only undocumented ones count."""
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
        and not (is_young and code in CODES)
    ]
    for code in sorted(new)[:MAX_ITEMS]:
        known = f", {CODES[code]}" if code in CODES else ", which Prembly does not document"
        yield Item(
            severity=Severity.NOTICE if code in CODES else Severity.WARNING,
            text=f"The first event with {_named(code)}{known}.",
            remedy="Look at the event, and decide which action should run for it.",
            target=Target(page="events", code=_filter(code)),
        )


def _first_event_of_each_code(database: Database) -> dict[str, int]:
    """Return the first event's number by response code: two seeks in the index for each code."""
    found = fetching.by_sql(database, _FIRST_OF_CODES, MAX_CODES)
    return {str(code): first_id for code, first_id in found}


def _named(code: str) -> str:
    if not code:
        return "no response code"
    return f"code {code}" if is_code(code) else "a code of another shape than Prembly's"


def _filter(code: str) -> str | None:
    """Return how lists are filtered by a code; None: a text that a sender chose is not shown."""
    if not code:
        return "missing"
    return code if is_code(code) else None


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
TROUBLES = (
    Trouble(kind="silent", ask=_silent, has_metric=False),
    Trouble(kind="rejections", ask=_rejections, passes=False),
    Trouble(
        kind="unmatched",
        ask=_unmatched,
        passes=False,
        needs_nobody=("event that matched no action", "events that matched no action"),
    ),
    Trouble(
        kind="new_code",
        ask=_new_code,
        passes=False,
        needs_nobody=("code that came for the first time", "codes that came for the first time"),
    ),
)
