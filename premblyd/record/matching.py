"""Which verifications the record has events of: by their references in every spelling, by the other
names that Prembly's answers gave them, and by their sessions."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from premblyd.engines.engine import Database, Lookup, Row, Transaction
from premblyd.model.tables import Event, VerificationName
from premblyd.prembly.payload import plain_id, same_id, session_reference
from premblyd.record import queries
from premblyd.verifications.spellings import Spelt
from premblyd.verifications.stored import IS_NOT_DOUBTED, LEAVES_OPEN

BATCH = 300  # SQLite takes 32,766 values in a statement: each may have twenty names, twice
_DIGEST = re.compile(r"session-[0-9a-f]{24}")  # as payload.session_reference makes it
_SESSION = re.compile(r"(sdk_)?session[_-].*", re.IGNORECASE | re.DOTALL)


def is_session(identifier: str) -> bool:
    """Return whether this is the id of an SDK session, which opens it."""
    return _SESSION.fullmatch(identifier) is not None and not is_digest(identifier)


def name_of(ids: Sequence[str]) -> str:
    """Return by which of its ids the record knows a verification, or would: of a session alone by a
    digest that anybody can make, as its id is a secret."""
    name = next((text for text in ids if not is_session(text)), None)
    return name or session_reference(ids[0])


def is_digest(reference: str) -> bool:
    """Return whether this stands for a session, of which no more is known."""
    return _DIGEST.fullmatch(reference) is not None


# Events that count: not those that Prembly has not confirmed. Whoever forges one must not hide that
# the true one never came.
_COUNTING = Event.select(Event.reference).where(IS_NOT_DOUBTED).distinct()
ANY = Spelt.of(_COUNTING, Event)
TELLING = Spelt.of(_COUNTING.where(~LEAVES_OPEN), Event)


def known_ids(database: Database, ids: Collection[str], which: Spelt = ANY) -> set[str]:
    """Return those of `ids` of which there is an event that counts, by its reference."""
    known: set[str] = set()
    for some in batches(sorted(set(ids))):
        found = events_named(database, some, which)
        known |= {name for name, rows in found.items() if rows}
    return known


def events_named(database: Database, ids: Iterable[str], which: Spelt) -> dict[str, list[Row]]:
    """Return for each of `ids` the rows of `which` that are of it. Their first column is the
    reference, as it is stored."""
    stored = {name: _spellings(name) for name in ids}

    def look(transaction: Transaction) -> dict[str, list[Row]]:
        spelt = _with_other_names(transaction, stored)
        all_spelt = sorted({spelling for each in spelt.values() for spelling in each})
        found = defaultdict[str, set[Row]](set)
        for lookup in which:
            for row in transaction.look_up(lookup, all_spelt):
                found[plain_id(_text(row[0]))].add(row)
        return {
            name: [row for plain in set(map(plain_id, spellings)) for row in found.get(plain, ())]
            for name, spellings in spelt.items()
        }

    return database.look(look)


def _with_other_names(
    transaction: Transaction, spelt: Mapping[str, set[str]]
) -> dict[str, set[str]]:
    """Return how events may have these ids as their reference: also by another name that an
    answer of Prembly's gave the same verification."""
    linked = defaultdict[str, set[str]](set)
    all_spelt = sorted(set().union(*spelt.values()))
    for name, its_other in transaction.look_up(_OTHER_NAMES, all_spelt):
        linked[name] |= _stored_as(its_other)
    return {
        name: spellings.union(*(linked[each] for each in spellings & linked.keys()))
        for name, spellings in spelt.items()
    }


def known_sessions(
    database: Database, session_ids: Iterable[str], *, since_ms: int | None = None
) -> set[str]:
    """Return those of `session_ids` of which there is an event, of those received since
    `since_ms`. There is no index of them, so ask for few."""
    known: set[str] = set()
    conditions = [IS_NOT_DOUBTED]
    if since_ms is not None:
        conditions.append(Event.received_at_ms >= since_ms)
    for some in batches(sorted(set(session_ids))):
        known |= events_of_sessions(database, some, (), *conditions).keys()
    return known


def events_of_sessions(
    database: Database,
    session_ids: Iterable[str],
    columns: Iterable[Any],
    *conditions: Any,
) -> dict[str, list[Row]]:
    """Return for each of `session_ids`, at most BATCH, of which there are events what `columns`
    have of these, for which these conditions hold."""
    is_one = Event.session_id.in_(list(session_ids))
    query = Event.select(Event.session_id, *columns).where(is_one, *conditions).distinct()
    found = defaultdict[str, list[Row]](list)
    for session_id, *row in queries.tuples(database, query):
        found[session_id].append(tuple(row))
    return dict(found)


def _spellings(identifier: str) -> set[str]:
    """Return how an event may have an id as its reference: as it is, of a session its digest, and
    of a UUID in its plain spelling. Or with _, if an earlier premblyd has stored it."""
    return {identifier, session_reference(identifier), *_stored_as(plain_id(identifier))}


def _stored_as(plain: str) -> set[str]:
    return {plain, plain.replace("-", "_")} if same_id(plain) != plain else {plain}


def _text(value: Any) -> str:
    """Return a reference; somebody may have put bytes in its place."""
    return str(value, "utf-8", "replace") if isinstance(value, bytes) else str(value)


def batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    return (texts[start : start + BATCH] for start in range(0, len(texts), BATCH))


_Own, _Other = VerificationName.alias(), VerificationName.alias()
_OTHER_NAMES = Lookup(
    _Own.select(_Own.name, _Other.name).join(_Other, on=_Own.verification == _Other.verification),
    _Own.name,
)
