"""Compares Prembly's log of a day with the record."""

import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from peewee import Case, Tuple, fn

from premblyd.ask.log import LogEntry, Window
from premblyd.engines.engine import Database, Lookup, Row, Transaction
from premblyd.model.keeptables import RemovedParts
from premblyd.model.states import State
from premblyd.model.tables import Delivery, Event
from premblyd.prembly import events
from premblyd.prembly.payload import session_reference
from premblyd.privacy import TYPE_WORDS, is_type
from premblyd.record import queries
from premblyd.record.certificates.certificate import CertificateDigests, Verification
from premblyd.record.certificates.summary import Counts, Received
from premblyd.record.matching import events_named, events_of_sessions, is_session, name_of
from premblyd.times import DAY_MS
from premblyd.verifications import erased
from premblyd.verifications.digests import Digests
from premblyd.verifications.spellings import Spelt
from premblyd.verifications.stored import IS_NOT_DOUBTED, LEAVES_OPEN

PORTION = 100  # verifications, each of a few names
READ = 1000  # events of one statement
OTHER = "other"  # what is of a type that nobody knows
_PRODUCT = re.compile(r"ver_([a-z]{1,20}(?:_[a-z]{1,20}){0,5})_.+", re.IGNORECASE)
_PRODUCT_WORDS = TYPE_WORDS | {"w"}  # as in ver_document_w_face_…


class Found(NamedTuple):
    """An event of a verification."""

    id: int
    type: str | None
    received_at_ms: int
    is_believed: int
    leaves_open: int
    acted_upon: int
    confirmed: int


def _truth(condition: Any) -> Any:
    return Case(None, [(condition, 1)], 0)


def _has_delivery(condition: Any) -> Any:
    return fn.EXISTS(Delivery.select(Delivery.id).where(Delivery.event == Event.id, condition))


_ACTED_UPON = _truth(_has_delivery(Delivery.state == State.SUCCEEDED))
# Prembly's own answer needs no other.
_CONFIRMED = _truth(
    (Event.verified_by == events.STORED_BY) | _has_delivery(Delivery.confirmed_at_ms.is_null(False))
)
_COLUMNS = (
    *(Event.id, Event.type, Event.received_at_ms),
    *(_truth(IS_NOT_DOUBTED), _truth(LEAVES_OPEN), _ACTED_UPON, _CONFIRMED),
)


_NAMED = Spelt.of(Event.select(Event.reference, *_COLUMNS), Event)
_ERASED = Lookup(Event.select(Event.erased_name, *_COLUMNS), Event.erased_name)


class _Compared(NamedTuple):
    """What is true of a verification, by the entry of this time."""

    at_ms: int
    type: str
    states: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class Comparing:
    """Compares the log with the record. Of each verification it keeps a digest and what is true of
    it; of several entries of one, the last counts."""

    database: Database
    window: Window
    too_old_ms: int | None
    without_time: int = 0  # entries of which nobody knows whether they are of this day
    digests: CertificateDigests = field(init=False)
    _names: Digests = field(init=False)
    _compared: dict[bytes, _Compared] = field(default_factory=dict)
    _of_day: set[int] = field(default_factory=set)  # events whose verification the log has
    _states: dict[tuple[str, ...], tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise as Digests.of does."""
        self._names = self.database.look(Digests.of)
        self.digests = CertificateDigests(self._names.key_for_certificates())

    def add(self, entries: Iterable[LogEntry]) -> None:
        """Compare entries of the log with the record."""
        left = iter(entries)
        while some := [*itertools.islice(left, PORTION)]:
            found, were_erased = self._find(some), self._find_erased(some)
            for entry in some:
                its = {each.id: each for name in entry.ids for each in found.get(name, ())}
                gone = {each.id: each for name in entry.ids for each in were_erased.get(name, ())}
                is_erased = any(name in were_erased for name in entry.ids)
                self._add(entry, [*its.values()], [*gone.values()], is_erased=is_erased)

    def verifications(self) -> Iterator[Verification]:
        """Yield the verifications, in the order of their digests."""
        for digest in sorted(self._compared):
            _, type_, states = self._compared[digest]
            yield Verification(digest.hex(), type_, states)

    def counts(self) -> dict[str, Counts]:
        """Return how many of each type."""
        by_type = defaultdict[str, Counts](Counts)
        for _, type_, states in self._compared.values():
            by_type[type_].add(states)
        return dict(sorted(by_type.items()))

    def _find(self, entries: Sequence[LogEntry]) -> dict[str, list[Found]]:
        """Return the events of these by their ids: by references, and where these find none that
        counts, by sessions."""
        ids = {name for entry in entries for name in entry.ids}
        rows = events_named(self.database, ids, _NAMED)
        found = {name: [Found(*row[1:]) for row in its] for name, its in rows.items()}
        sessions = {
            name
            for entry in entries
            if not any(each.is_believed for own in entry.ids for each in found[own])
            for name in filter(is_session, entry.ids)
        }
        if sessions:
            since = Event.received_at_ms >= self.window.since_ms - DAY_MS
            by_session = events_of_sessions(self.database, sessions, _COLUMNS, since)
            for name, its in by_session.items():
                found[name] += [Found(*row) for row in its]
        return found

    def _find_erased(self, entries: Sequence[LogEntry]) -> dict[str, list[Found]]:
        """Return which of the ids were erased, with the events that are known to be of them."""
        ids = {name for entry in entries for name in entry.ids}
        by_digest = defaultdict[str, set[str]](set)
        for name in ids:
            for spelt in (name, session_reference(name)):
                by_digest[self._names.of_reference(spelt)].add(name)

        def look(transaction: Transaction) -> dict[str, list[Found]]:
            found: dict[str, list[Found]] = {
                name: [] for name in erased.which_erased(transaction, ids)
            }
            for digest, *row in transaction.look_up(_ERASED, sorted(by_digest)):
                for name in by_digest[digest]:
                    found.setdefault(name, []).append(Found(*row))
            return found

        return self.database.look(look)

    def _add(
        self, entry: LogEntry, its: list[Found], gone: list[Found], *, is_erased: bool
    ) -> None:
        self.without_time += entry.at_ms is None
        since_ms, until_ms = self.window.since_ms, self.window.until_ms
        self._of_day |= {
            each.id for each in (*its, *gone) if since_ms <= each.received_at_ms < until_ms
        }
        digest = self.digests.of_reference(name_of(entry.ids))
        before = self._compared.get(digest)
        if before is None or (entry.at_ms or 0) > before.at_ms:
            states = tuple(self._states_of(entry, its, gone, is_erased=is_erased))
            kept = self._states.setdefault(states, states)
            self._compared[digest] = _Compared(entry.at_ms or 0, _type_of(entry, its + gone), kept)

    def _states_of(
        self, entry: LogEntry, its: list[Found], gone: list[Found], *, is_erased: bool
    ) -> Iterator[str]:
        """Yield what is true of a verification, by the names of `Counts`."""
        believed = [each for each in its if each.is_believed]
        yield "in_log"
        if entry.is_open:
            yield "not_ended"
        if believed:
            yield "in_record"
            if entry.is_final and all(each.leaves_open for each in believed):
                yield "unsettled"
        elif is_erased:
            yield "erased"
        elif not entry.is_open:
            yield "too_old" if self._is_too_old(entry) else "missing"
        if any(each.acted_upon for each in (*its, *gone)):
            yield "acted_upon"
            if not any(each.confirmed for each in (*its, *gone)):
                yield "unconfirmed"

    def _is_too_old(self, entry: LogEntry) -> bool:
        return (
            self.too_old_ms is not None
            and entry.at_ms is not None
            and entry.at_ms < self.too_old_ms
        )

    def received(self, *, is_log_whole: bool) -> tuple[dict[str, Received], bool]:
        """Return what was received on the day, by the events' types, and whether any of it lacks
        what named a person since its time was over."""
        by_type = defaultdict[str, Received](
            lambda: Received(not_in_log=0 if is_log_whole else None)
        )
        is_nameless = False
        for id_, type_, removed_parts, acted_upon, confirmed in self._events():
            its = by_type[_event_type(type_)]
            its.events += 1
            its.acted_upon += acted_upon
            its.unconfirmed += bool(acted_upon and not confirmed)
            its.erased += removed_parts == RemovedParts.ERASED
            if its.not_in_log is not None:
                its.not_in_log += id_ not in self._of_day
            is_nameless = is_nameless or removed_parts == RemovedParts.IDENTITY
        return dict(sorted(by_type.items())), is_nameless

    def _events(self) -> Iterator[Row]:
        place = (self.window.since_ms, 0)
        columns = (Event.id, Event.type, Event.removed_parts, _ACTED_UPON, _CONFIRMED)
        while True:
            query = (
                Event.select(Event.received_at_ms, *columns)
                .where(
                    Event.received_at_ms >= place[0],
                    Event.received_at_ms < self.window.until_ms,
                    Tuple(Event.received_at_ms, Event.id) > Tuple(*place),
                )
                .order_by(Event.received_at_ms, Event.id)
                .limit(READ)
            )
            rows = queries.tuples(self.database, query)
            yield from (row[1:] for row in rows)
            if len(rows) < READ:
                return
            place = (rows[-1][0], rows[-1][1])


def _type_of(entry: LogEntry, found: Sequence[Found]) -> str:
    """Return of which product a verification is: as Prembly's reference says, such as
    ver_bvn_…; else as its first event does."""
    for name in entry.ids:
        match = _PRODUCT.fullmatch(name)
        if match and _PRODUCT_WORDS.issuperset(match[1].lower().split("_")):
            return match[1].lower()
    types = (_event_type(each.type) for each in sorted(found) if each.type)
    return next(types, events.SESSION if any(map(is_session, entry.ids)) else events.UNKNOWN)


def _event_type(name: Any) -> str:
    if not name:
        return events.UNKNOWN
    return name if isinstance(name, str) and is_type(name) else OTHER
