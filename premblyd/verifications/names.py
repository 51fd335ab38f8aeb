"""The names of a verification: Prembly knows one by a reference, by a UUID and by its session, and
its events come under any of them. So that `once` runs once for it, whatever it is called.

Only what Prembly's answers say is kept here: a webhook may put any session beside any reference.
Sessions are kept as digests, and UUIDs in their plain spelling.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

from premblyd.engines.engine import Lookup, Statement, Transaction, insert, param
from premblyd.model.tables import VerificationName
from premblyd.prembly.payload import plain_id

MAX_NAMES = 20  # of one verification: what has more is no name
LOCK_COUNT = 16


def lock_names(names: Collection[str]) -> set[str]:
    """Return what is locked before these names are learnt."""
    return {f"verification {sum(plain_id(name).encode()) % LOCK_COUNT}" for name in names}


def learn_names(transaction: Transaction, names: Sequence[str], now_ms: int) -> tuple[str, ...]:
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
            transaction.write(_INSERT, name=name, verification=first, at_ms=now_ms)
    for verification in verifications:
        if verification != first:
            transaction.write(_JOIN, verification=first, other=verification)
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


def groups(transaction: Transaction, names: Collection[str]) -> dict[str, set[str]]:
    """Return of these names, in their plain spelling, which belong to a verification of several,
    each with all names of that."""
    known = transaction.look_up(_BY_NAME, sorted(set(map(plain_id, names))))
    of_verification: dict[str, set[str]] = defaultdict(set)
    verifications = sorted({verification for _, verification in known})
    for verification, name in transaction.look_up(_GROUPS, verifications):
        of_verification[verification].add(name)
    return {name: of_verification[verification] for name, verification in known}


def _names_of(transaction: Transaction, verifications: Sequence[str]) -> set[str]:
    return {name for (name,) in transaction.look_up(_BY_VERIFICATION, list(verifications))}


_BY_NAME = Lookup(
    VerificationName.select(VerificationName.name, VerificationName.verification),
    VerificationName.name,
)
_BY_VERIFICATION = Lookup(
    VerificationName.select(VerificationName.name), VerificationName.verification
)
_GROUPS = Lookup(
    VerificationName.select(VerificationName.verification, VerificationName.name),
    VerificationName.verification,
)
_INSERT = insert(VerificationName, "name", "verification", "at_ms", if_unique=True)
_JOIN = Statement(
    VerificationName.update(verification=param("verification")).where(
        VerificationName.verification == param("other")
    )
)
