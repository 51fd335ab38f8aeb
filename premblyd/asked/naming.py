"""The names of a verification: Prembly knows one by a reference, by a UUID and by its session, and
its events come under any of them. So that `once` runs once for it, whatever it is called.

Only what Prembly's answers say is kept here: a webhook may put any session beside any reference.
Sessions are kept as digests.

The spellings of a reference. A UUID names the same verification with hyphens and with
underscores, in capitals and in small letters: its plain spelling stands for all (payload.plain_id).

`reference_key` has the plain spelling of a row whose `reference` has another, and NULL in all
others, which are nearly all: so no row with a photo is written again because of it. Rows that were
stored by an earlier premblyd, or are by one on another host, get it in portions.
"""

import asyncio
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from peewee import Tuple

from premblyd.engines.engine import Row, Transaction
from premblyd.engines.writer import Step, Writer
from premblyd.model.statements import Lookup, Statement, insert, param
from premblyd.model.tables import Awaited, Event, VerificationName
from premblyd.prembly.payload import plain_id, same_id

PORTION = 500  # references that are looked at in a transaction, by an index
MOST_WRITTEN = 50  # rows: webhooks wait for as long as it takes


class Spelt(NamedTuple):
    """The same look-up by `reference`, and by `reference_key`."""

    by_reference: Lookup
    by_key: Lookup


def reference_key(reference: str | None) -> str | None:
    """Return what a row with this reference has as its key."""
    plain = plain_id(reference) if reference else None
    return None if plain == reference else plain


def look_up(transaction: Transaction, spelt: Spelt, references: Collection[str]) -> list[Row]:
    """Return the rows of these references, however each is spelt there. (A row that has no key yet
    is found by its own spelling.)"""
    plain = {plain_id(reference) for reference in references}
    rows = transaction.look_up(spelt.by_reference, sorted(plain.union(references)))
    if all(same_id(reference) == reference for reference in plain):  # no UUID
        return rows
    found = set(rows)
    return rows + [
        row for row in transaction.look_up(spelt.by_key, sorted(plain)) if row not in found
    ]


class Cursor(NamedTuple):
    """Where a walk through all references has come to."""

    reference: str
    id: int


class ReferenceKeys:
    """Gives rows their `reference_key` that have none."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def fill(self, after: Cursor | None) -> "asyncio.Future[Cursor | None]":
        """Look at the next events behind `after`, in the order of their references (which an index
        has, so that no event is read), until MOST_WRITTEN of them have got a key. Return the last
        one; None: there are no more."""

        def operation(transaction: Transaction) -> Cursor | None:
            start = after or Cursor("", 0)
            rows = transaction.rows(
                _EVENTS, after=start.reference, after_id=start.id, limit=PORTION
            )
            if after is None:
                _fill(transaction, _KEY_AWAITED, transaction.rows(_AWAITED))
            done = _fill(transaction, _KEY_EVENT, rows, most=MOST_WRITTEN)
            return Cursor(*rows[done - 1]) if done == PORTION or done < len(rows) else None

        return self._writer.call(operation, Step.EVIDENCE)


def _fill(
    transaction: Transaction, statement: Statement, rows: Sequence[Row], most: int | None = None
) -> int:
    """Give rows their key, at most so many. Return how many of the rows were looked at."""
    written = 0
    for number, (reference, id_) in enumerate(rows):
        if isinstance(reference, str) and (key := reference_key(reference)):
            if written == most:
                return number
            written += transaction.change(statement, id=id_, reference_key=key)
    return len(rows)


_EVENTS = Statement(
    Event.select(Event.reference, Event.id)
    .where(
        Event.reference.is_null(False),
        Tuple(Event.reference, Event.id) > Tuple(param("after"), param("after_id")),
    )
    .order_by(Event.reference, Event.id)
    .limit(param("limit"))
)
# Few are awaited at once.
_AWAITED = Statement(
    Awaited.select(Awaited.reference, Awaited.id).where(
        Awaited.due_at_ms.is_null(False), Awaited.reference_key.is_null()
    )
)
_KEY_EVENT = Statement(
    Event.update(reference_key=param("reference_key")).where(
        Event.id == param("id"), Event.reference_key.is_null()
    )
)
_KEY_AWAITED = Statement(
    Awaited.update(reference_key=param("reference_key")).where(Awaited.id == param("id"))
)


MAX_NAMES = 20  # of one verification: what has more is no name
LOCK_COUNT = 16


def lock_names(names: Collection[str]) -> set[str]:
    """Return what is locked before these names are learnt."""
    return {f"verification {sum(plain_id(name).encode()) % LOCK_COUNT}" for name in names}


def learn(transaction: Transaction, names: Sequence[str], now_ms: int) -> tuple[str, ...]:
    """Keep that an answer gives a verification all of these names, in a transaction that has locked
    `lock_names`. Return all that it has; the first is the one that stays first, whatever else is
    learnt: by it `once` knows the verification."""
    if not names:
        return ()
    known: dict[str, str] = dict(transaction.look_up(_BY_NAME, list(names)))
    if not known and len(names) == 1:
        return tuple(names)
    verifications = sorted(set(known.values())) or [names[0]]
    first = names[0] if names[0] in verifications else verifications[0]
    group = _names_of(transaction, verifications)
    if len(group.union(names)) > MAX_NAMES:
        return tuple(names[:1])
    for name in names:
        if name not in known:
            transaction.insert(_INSERT, name=name, verification=first, at_ms=now_ms)
    for verification in verifications:
        if verification != first:
            transaction.change(_JOIN, verification=first, other=verification)
    return (first, *sorted(group.union(names) - {first}))


def names_of(transaction: Transaction, verification: Any) -> tuple[str, ...]:
    """Return all names of a verification; none for one that has but one."""
    if not isinstance(verification, str):
        return ()
    group = _names_of(transaction, [verification])
    return (verification, *sorted(group - {verification}))


def known_as(transaction: Transaction, names: Collection[str]) -> set[str]:
    """Return these names and all others of their verifications."""
    known = transaction.look_up(_BY_NAME, sorted(set(map(plain_id, names))))
    return {*names, *_names_of(transaction, sorted({verification for _, verification in known}))}


def _names_of(transaction: Transaction, verifications: Sequence[str]) -> set[str]:
    return {name for (name,) in transaction.look_up(_BY_VERIFICATION, list(verifications))}


_BY_NAME = Lookup(
    VerificationName.select(VerificationName.name, VerificationName.verification),
    VerificationName.name,
)
_BY_VERIFICATION = Lookup(
    VerificationName.select(VerificationName.name), VerificationName.verification
)
_INSERT = insert(VerificationName, "name", "verification", "at_ms", if_unique=True)
_JOIN = Statement(
    VerificationName.update(verification=param("verification")).where(
        VerificationName.verification == param("other")
    )
)
