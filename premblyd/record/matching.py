"""Which verifications the record has events of: by their references in every spelling, by the other
names that Prembly's answers gave them, and by their sessions."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from premblyd.engines.engine import Database
from premblyd.engines.opened import AsStored
from premblyd.model.tables import Event, VerificationName
from premblyd.prembly.payload import plain_id, same_id, session_reference
from premblyd.record import naming, queries
from premblyd.verifications.digests import Digests
from premblyd.verifications.stored import IS_NOT_DOUBTED

BATCH = 300  # SQLite takes 32,766 values in a statement: each may have twenty names, twice
_DIGEST = re.compile(r"session-[0-9a-f]{24}")  # as payload.session_reference makes it
_SESSION = re.compile(r"(sdk_)?session[_-].*", re.IGNORECASE | re.DOTALL)


def is_session(identifier: str) -> bool:
    """Return whether this is the id of an SDK session, which opens it."""
    return _SESSION.fullmatch(identifier) is not None and not is_digest(identifier)


def is_digest(reference: str) -> bool:
    """Return whether this stands for a session, of which no more is known."""
    return _DIGEST.fullmatch(reference) is not None


def known_ids(database: Database, ids: Collection[str], *conditions: Any) -> set[str]:
    """Return those of `ids` of which there is an event, by its reference, for which these
    conditions hold. Not one that Prembly has not confirmed: whoever forges it must not hide
    that the true one never came."""
    known: set[str] = set()
    named = naming.names(database)
    for some in batches(sorted(set(ids))):
        stored = {name: {named.reference(each) for each in spellings_of(name)} for name in some}
        spelt = with_other_names(database, stored)
        all_spelt = sorted({spelling for each in spelt.values() for spelling in each})
        is_one = Event.reference.in_(all_spelt) | Event.reference_key.in_(all_spelt)
        query = Event.select(Event.reference).where(is_one, IS_NOT_DOUBTED, *conditions)
        found = {
            plain_id(text_of(row[0])) for row in queries.raw_tuples(database, query.distinct())
        }
        known |= {
            name
            for name, spellings in spelt.items()
            if not found.isdisjoint(map(plain_id, spellings))
        }
    return known


def with_other_names(database: Database, spelt: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Return how events may have these ids as their reference: also by another name that an
    answer of Prembly's gave the same verification."""
    own, other = VerificationName.alias(), VerificationName.alias()
    query = (
        own.select(own.name, other.name)
        .join(other, on=own.verification == other.verification)
        .where(own.name.in_(sorted(set().union(*spelt.values()))))
    )
    linked = defaultdict[str, set[str]](set)
    for name, its_other in queries.raw_tuples(database, query):
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
    digests = database.look(Digests.of)
    for some in batches(sorted(set(session_ids))):
        by_digest = {digests.of_session(each): each for each in some}
        # As it is stored: what is sealed is found by its digest.
        session, digest = AsStored(Event.session_id), Event.session_digest
        is_one = Event.session_id.in_(list(some)) | digest.in_(list(by_digest))
        query = Event.select(session, digest).where(is_one, IS_NOT_DOUBTED).distinct()
        if since_ms is not None:
            query = query.where(Event.received_at_ms >= since_ms)
        for session_id, its_digest in queries.tuples(database, query):
            known.add(by_digest.get(its_digest, session_id))
    return known


def spellings_of(identifier: str) -> set[str]:
    """Return how an event may have an id as its reference: as it is, of a session its digest, and
    of a UUID in its plain spelling. Or with _, if an earlier premblyd has stored it."""
    return {identifier, session_reference(identifier), *_stored_as(plain_id(identifier))}


def _stored_as(plain: str) -> set[str]:
    return {plain, plain.replace("-", "_")} if same_id(plain) != plain else {plain}


def text_of(value: Any) -> str:
    """Return a reference; somebody may have put bytes in its place."""
    return str(value, "utf-8", "replace") if isinstance(value, bytes) else str(value)


def batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    return (texts[start : start + BATCH] for start in range(0, len(texts), BATCH))
