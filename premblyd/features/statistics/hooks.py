"""Counts by the hour, kept in the same transactions as what they count: reading them needs no count
of a million events.

Events are counted here, many at once. Attempts end one by one, and are counted by the database
itself, by the trigger `attempt_counted` (tables.py): here it took one statement more, and
with it 5 % of the processor's time for accepting an event and running a hook.

They stay when an event is deleted. What a sender chose is in them only in a few shapes: so they
hold no personal data, and nobody can make them long.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from peewee import EXCLUDED

from premblyd.features.statistics.tables import EventHour
from premblyd.ground.privacy import is_code
from premblyd.ground.times import HOUR_MS
from premblyd.queue.hooks import Arrival, Hooks
from premblyd.store.engine import Statement, Transaction, param

OTHER = "other"
_MAX_CODE = 4  # characters
_TYPE = re.compile(r"[a-z0-9_.-]{1,48}")


def rolled_code(code: str | None) -> str:
    """Return a response code as it is counted."""
    if not code:
        return ""
    return code if len(code) <= _MAX_CODE and is_code(code) else OTHER


def rolled_type(name: str | None) -> str:
    """Return an event's type as it is counted."""
    if not name:
        return ""
    return name if _TYPE.fullmatch(name) else OTHER


class EventGroup(NamedTuple):
    """What webhooks have in common that are counted together."""

    hour_ms: int
    type: str
    response_code: str
    outcome: str


# Bounded, since a sender may make up types and codes. Those of one hour are few.
@lru_cache(maxsize=256)
def _group(hour_ms: int, type_: str | None, code: str | None, outcome: str) -> EventGroup:
    return EventGroup(hour_ms, rolled_type(type_), rolled_code(code), outcome)


def hour_of(time_ms: int) -> int:
    """Return when the hour of a time began."""
    return time_ms - time_ms % HOUR_MS


def lower_bound_ms(upper: int) -> int:
    """Return the bound of the bucket before the one up to `upper` in `attempt_hour`: 1 ms, 2, 3, 4,
    6, 8, 12, 16, … Two to a doubling, so that what is found half-way into one is wrong by a fifth
    at most."""
    is_power = upper & (upper - 1) == 0
    return upper * 3 // 4 if is_power else upper * 2 // 3


def count(transaction: Transaction, arrivals: Iterable[Arrival]) -> None:
    """Count what arrived in a transaction: a statement for each group, and there are few."""
    counts: dict[EventGroup, list[int]] = {}
    for each in arrivals:
        if each.webhook is None:  # a delivery more for an event that is there
            continue
        hour_ms, verdict = hour_of(each.webhook.received_at_ms), each.webhook.verdict
        group = _group(hour_ms, verdict.type, verdict.response_code, verdict.outcome)
        columns = counts.setdefault(group, [0, 0, 0])
        columns[0] += each.is_new
        columns[1] += not each.is_new
        columns[2] += each.is_new and not each.has_deliveries
    # In one order: hosts whose counts are in the same part must not wait for each other.
    for group, (events, again, alone) in sorted(counts.items()):
        its = group._asdict() | {"part": transaction.part}
        transaction.write(_COUNT_EVENTS, events=events, duplicates=again, unmatched=alone, **its)


def count_none(transaction: Transaction) -> None:
    """Write a count to the disk and take it back, in a row that no other daemon on this database
    changes: one that stops within its transaction must not keep the others waiting."""
    none = EventGroup(0, "", "", "")._asdict() | {"part": transaction.part}
    transaction.write(_COUNT_EVENTS, events=0, duplicates=0, unmatched=0, **none)
    transaction.write(_TAKE_BACK, **none)


_COUNTS = ("events", "duplicates", "unmatched")
_FIELDS = EventHour._meta.columns
_KEY = [field for name, field in _FIELDS.items() if name not in _COUNTS]
_COUNT_EVENTS = Statement(
    EventHour.insert({field: param(name) for name, field in _FIELDS.items()}).on_conflict(
        conflict_target=_KEY,
        update={_FIELDS[name]: _FIELDS[name] + getattr(EXCLUDED, name) for name in _COUNTS},
    )
)
_TAKE_BACK = Statement(
    EventHour.delete().where(*(field == param(field.column_name) for field in _KEY))
)

HOOKS = (Hooks(arrived=count, prove=count_none),)
