"""What the record has, and gets, of verifications that Prembly knows of; and the downtimes in which
some may have been lost."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peewee import Database

from premblyd import times
from premblyd.engines.connections import transact
from premblyd.hosts.heartbeat import reconciled
from premblyd.model.tables import Downtime, Event, VerificationName
from premblyd.prembly.payload import plain_id, same_id, session_reference
from premblyd.queue.settling import NewAnswer, add_answer
from premblyd.record import queries
from premblyd.verifications import questions
from premblyd.verifications.questions import NewInquiry
from premblyd.verifications.stored import IS_NOT_DOUBTED, LEAVES_OPEN

BATCH = 300  # SQLite takes 32,766 values in a statement: each may have twenty names, twice


@dataclass(frozen=True, slots=True, kw_only=True)
class DowntimeRow:
    """A time in which no webhook could be stored, and after which nobody has looked yet whether
    something is missing."""

    id: int
    from_ms: int
    until_ms: int

    @property
    def since(self) -> str:
        """Its beginning as `--since` takes it, to the second before."""
        return times.iso(self.from_ms // 1000 * 1000)


class OwnRecord:
    """The record as a reconciliation works on it: on a command's own connection, each change in a
    transaction of its own. Every method raises StoreUnavailableError when the database can't."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def known_ids(self, ids: Collection[str]) -> set[str]:
        """Return those of `ids` of which there is an event, by its reference. Not one that Prembly
        has not confirmed: whoever forges it must not hide that the true one never came."""
        return self._with_event(ids)

    def told_ids(self, ids: Collection[str]) -> set[str]:
        """Return those of `known_ids` of which an event says more than that nobody knows yet. What
        is doubted does, if it is about a verification: it is for a person to look at."""
        return self._with_event(ids, ~LEAVES_OPEN)

    def _with_event(self, ids: Collection[str], *conditions: Any) -> set[str]:
        known: set[str] = set()
        for some in _batches(sorted(set(ids))):
            spelt = self._with_other_names({name: _spellings(name) for name in some})
            all_spelt = sorted({spelling for each in spelt.values() for spelling in each})
            is_one = Event.reference.in_(all_spelt) | Event.reference_key.in_(all_spelt)
            query = Event.select(Event.reference).where(is_one, IS_NOT_DOUBTED, *conditions)
            found = {plain_id(row[0]) for row in queries.tuples(self._database, query.distinct())}
            known |= {
                name
                for name, spellings in spelt.items()
                if not found.isdisjoint(map(plain_id, spellings))
            }
        return known

    def _with_other_names(self, spelt: Mapping[str, set[str]]) -> dict[str, set[str]]:
        """Return how events may have these ids as their reference: also by another name that an
        answer of Prembly's gave the same verification."""
        own, other = VerificationName.alias(), VerificationName.alias()
        query = (
            own.select(own.name, other.name)
            .join(other, on=own.verification == other.verification)
            .where(own.name.in_(sorted(set().union(*spelt.values()))))
        )
        linked = defaultdict[str, set[str]](set)
        for name, its_other in queries.tuples(self._database, query):
            linked[name] |= _stored_as(its_other)
        return {
            name: spellings.union(*(linked[each] for each in spellings & linked.keys()))
            for name, spellings in spelt.items()
        }

    def known_sessions(
        self, session_ids: Collection[str], *, since_ms: int | None = None
    ) -> set[str]:
        """Return those of `session_ids` of which there is an event, of those received since
        `since_ms`. There is no index of them, so ask for few."""
        known: set[str] = set()
        for some in _batches(sorted(set(session_ids))):
            query = Event.select(Event.session_id).where(
                Event.session_id.in_(list(some)), IS_NOT_DOUBTED
            )
            if since_ms is not None:
                query = query.where(Event.received_at_ms >= since_ms)
            known |= {
                session_id for (session_id,) in queries.tuples(self._database, query.distinct())
            }
        return known

    def store(self, new: NewAnswer, inquiry: NewInquiry) -> tuple[int, bool]:
        """Store an answer. Return its event's number, and whether the event is new."""
        added = transact(self._database, lambda transaction: add_answer(transaction, new, inquiry))
        return added.event_id, added.is_new

    def note(self, inquiry: NewInquiry) -> None:
        """Keep a question that settled nothing."""
        transact(self._database, lambda transaction: questions.add(transaction, inquiry))

    def mend_downtimes(self, *, since_ms: int, until_ms: int, now_ms: int) -> int:
        """Keep that nothing is missing of this time. Return how many downtimes that mends."""
        return transact(
            self._database,
            lambda transaction: reconciled(
                transaction, since_ms=since_ms, until_ms=until_ms, now_ms=now_ms
            ),
        )


def open_downtimes(database: Database, *, since_ms: int) -> list[DowntimeRow]:
    """Return the downtimes that ended since `since_ms` and are not reconciled, oldest first."""
    query = (
        Downtime.select(Downtime.id, Downtime.from_ms, Downtime.until_ms)
        .where(Downtime.reconciled_at_ms.is_null(), Downtime.until_ms >= since_ms)
        .order_by(Downtime.id)
    )
    rows = queries.tuples(database, query)
    return [
        DowntimeRow(id=row[0], from_ms=row[1], until_ms=row[2])
        for row in rows
        if all(isinstance(value, int) for value in row)
    ]


def _spellings(identifier: str) -> set[str]:
    """Return how an event may have an id as its reference: as it is, of a session its digest, and
    of a UUID in its plain spelling. Or with _, if an earlier premblyd has stored it."""
    return {identifier, session_reference(identifier), *_stored_as(plain_id(identifier))}


def _stored_as(plain: str) -> set[str]:
    return {plain, plain.replace("-", "_")} if same_id(plain) != plain else {plain}


def _batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    return (texts[start : start + BATCH] for start in range(0, len(texts), BATCH))
