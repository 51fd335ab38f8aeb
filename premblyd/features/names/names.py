"""The names of a verification: a reference, a UUID, a session. Its events come under any of them,
and `once` runs once for all.

Two names are one verification only if one answer to a question about the one calls the same object
by both. A verification has one UUID and one other reference at most. A name stays with the
verification that had it first: what another one claims links nothing, and is noted. Then hooks run
for both: a hook that runs twice can be seen, and one that never runs can't.

Only what Prembly's answers say is kept here: a webhook may put any session beside any reference.
Sessions are kept as digests, and UUIDs in their plain spelling.

A UUID with hyphens or underscores, in capitals or small letters, is the same name: its plain
spelling stands for all (payload.plain_id). A column `reference_key` has the plain spelling of a row
whose `reference` has another, and NULL in all others, which are nearly all.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple, Self

from peewee import Query

from premblyd.features.names.tables import VerificationName
from premblyd.prembly.payload import is_uuid, plain_id, same_id
from premblyd.store.engine import Lookup, Row, Statement, Transaction, insert, param, update

MAX_NAMES = 20  # of one verification: what has more is no name
LOCK_COUNT = 16


def lock_names(names: Collection[str]) -> set[str]:
    """Return what is locked before these names are learnt."""
    return {f"verification {sum(plain_id(name).encode()) % LOCK_COUNT}" for name in names}


def learn_names(transaction: Transaction, names: Sequence[str], now_ms: int) -> tuple[str, ...]:
    """Keep that an answer gives a verification all of these names, as `answers.all_names` has them,
    in a transaction that has locked `lock_names`. Return all that the first one's verification has;
    the first of these is the one that stays first, whatever else is learnt: by it `once` knows the
    verification."""
    if not names:
        return ()
    known: dict[str, str] = dict(transaction.look_up(_BY_NAME, list(names)))
    first = names[0]
    verification = known.get(first)
    group = {first, *names_of(transaction, verification)}
    for name in names[1:]:
        if name in group:
            continue
        other = known.get(name)
        its = {name, *names_of(transaction, other)}
        if not _are_one(group | its) or (other is not None and _is_session(name)):
            transaction.write(_NOTE_CLAIM, name=name, claimed_at_ms=now_ms)
            continue
        if verification is None:
            verification = other or first
            transaction.write(_INSERT, name=first, verification=verification, at_ms=now_ms)
        if other is None:
            transaction.write(_INSERT, name=name, verification=verification, at_ms=now_ms)
        elif other != verification:
            transaction.write(_JOIN, verification=verification, other=other)
        group |= its
    stays_first = verification or first
    return (stays_first, *sorted(group - {stays_first}))


def _are_one(names: Collection[str]) -> bool:
    """Return whether these can be the names of one verification: a UUID and a reference, which is
    ver_… or whatever an event calls so, and sessions."""
    kinds = Counter(map(is_uuid, itertools.filterfalse(_is_session, names)))
    return max(kinds.values(), default=0) <= 1 and len(names) <= MAX_NAMES


def _is_session(name: str) -> bool:
    """Return whether a name is that of a session, which two verifications may share."""
    return name.startswith("session-")


def names_of(transaction: Transaction, verification: Any) -> tuple[str, ...]:
    """Return all names of a verification; none for one that has but one."""
    if not isinstance(verification, str):
        return ()
    group = {name for _, name in transaction.look_up(GROUPS, [verification])}
    return (verification, *sorted(group - {verification}))


def known_as(transaction: Transaction, names: Collection[str]) -> set[str]:
    """Return these names and all others of their verifications."""
    return {*names, *itertools.chain.from_iterable(groups(transaction, names).values())}


def groups(transaction: Transaction, names: Collection[str]) -> dict[str, set[str]]:
    """Return of these names, in their plain spelling, which belong to a verification of several,
    each with all names of that."""
    known = transaction.look_up(_BY_NAME, sorted(set(map(plain_id, names))))
    of_verification: dict[str, set[str]] = defaultdict(set)
    verifications = sorted({verification for _, verification in known})
    for verification, name in transaction.look_up(GROUPS, verifications):
        of_verification[verification].add(name)
    return {name: of_verification[verification] for name, verification in known}


_BY_NAME = Lookup(
    VerificationName.select(VerificationName.name, VerificationName.verification),
    VerificationName.name,
)
GROUPS = Lookup(
    VerificationName.select(VerificationName.verification, VerificationName.name),
    VerificationName.verification,
)
_INSERT = insert(VerificationName, "name", "verification", "at_ms", if_unique=True)
_NOTE_CLAIM = update(
    VerificationName, "claimed_at_ms", where=VerificationName.name == param("name")
)
_JOIN = Statement(
    VerificationName.update(verification=param("verification")).where(
        VerificationName.verification == param("other")
    )
)


class Spelt(NamedTuple):
    """The same look-up by `reference`, and by `reference_key`."""

    by_reference: Lookup
    by_key: Lookup

    @classmethod
    def of(cls, query: Query, table: Any) -> Self:
        """Return the look-up of a query of `table`, which has both columns."""
        return cls(Lookup(query, table.reference), Lookup(query.clone(), table.reference_key))


def look_up(transaction: Transaction, spelt: Spelt, references: Collection[str]) -> list[Row]:
    """Return the rows of these references, however each is spelt there."""
    plain = {plain_id(reference) for reference in references}
    rows = transaction.look_up(spelt.by_reference, sorted(plain.union(references)))
    if all(same_id(reference) == reference for reference in plain):  # no UUID
        return rows
    found = set(rows)
    return rows + [
        row for row in transaction.look_up(spelt.by_key, sorted(plain)) if row not in found
    ]
