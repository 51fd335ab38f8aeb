"""Pseudonyms: with `encryption: {identity: sealed}`, what stands for each reference and user_ref in
every column that has one. It is a keyed digest, so equal names have equal pseudonyms: all that is
compared, joined or looked up works with these as with the names themselves. What a name is, only
its events say, sealed by their keys: so who is erased leaves none behind, in no copy.

Whoever brings a name in, from a webhook, from Prembly or from a person, has it turned here, with
`of`; and only what goes out, to a hook, to Prembly or to people, is turned back.
"""

import contextlib
import re
from collections.abc import Collection, Iterable
from dataclasses import replace

from peewee import fn

from premblyd.engines.engine import Lookup, Statement, Transaction
from premblyd.errors import PremblydError, TryAgainError
from premblyd.model.keeptables import DigestKey, Naming
from premblyd.model.tables import Event
from premblyd.prembly.payload import Verdict
from premblyd.vault import LacksKeyError
from premblyd.verifications.digests import PSEUDONYM, Digests

FLOOR = "0012_identity"  # what a program must know that works on such a database
_SHAPE = re.compile(rf"{PSEUDONYM}[0-9a-f]{{64}}")


class ConvertingError(TryAgainError):
    """A part of the names is in clear yet. Run `premblyd rekey --names` to its end."""

    def __init__(self) -> None:
        super().__init__(
            "The names in this database are being sealed, and some are in clear yet: run"
            " `premblyd rekey --names` to its end, then again."
        )


class SealedNamesError(PremblydError):
    """What is asked for by a name can't be found, nor stored, since names are sealed and the key is
    not here. A pseudonym, as lists have it, is found."""

    lacks_rights = True

    def __init__(self) -> None:
        super().__init__(
            "References and user_refs are sealed in this database, and this user may not read the"
            " data key by which they are found, or `encryption` does not name it. Root may read"
            " it. Lists and filters take what stands for a name without it: sealed-…"
        )


class Names:
    """What stands for a name where names are in clear: itself."""

    is_sealed = False
    were_clear = False  # of what has lost its name since, keyed digests of digests are left

    def reference(self, reference: str) -> str:
        """Return what stands for a reference."""
        return reference

    def user(self, user_ref: str) -> str:
        """Return what stands for a person's `user_ref`."""
        return user_ref

    def of_earlier_key(self, key: str) -> str:
        """Return what stands for a digest of a name that is of the time when it was in clear."""
        return key

    def references(self, references: Iterable[str]) -> set[str]:
        """Return what stands for these references."""
        return {self.reference(each) for each in references}

    def named_reference(self, reference: str) -> str:
        """Return what stands for a reference that a person has named, who may see no more than
        what stands for it."""
        return reference if is_pseudonym(reference) else self.reference(reference)

    def named_user(self, user_ref: str) -> str:
        """Return the same for a `user_ref`."""
        return user_ref if is_pseudonym(user_ref) else self.user(user_ref)

    def verdict(self, verdict: Verdict) -> Verdict:
        """Return what a webhook says, with what stands for its names."""
        return verdict

    def originals(self, verdict: Verdict) -> tuple[str | None, str | None]:
        """Return the names that are kept beside what stands for them."""
        del verdict
        return (None, None)


class Pseudonyms(Names):
    """The same where they are sealed."""

    is_sealed = True

    def __init__(self, digests: Digests, *, were_clear: bool = False) -> None:
        self._digests = digests
        self.were_clear = were_clear

    def of_earlier_key(self, key: str) -> str:
        return self._digests.of_key(key)

    def reference(self, reference: str) -> str:
        return self._digests.pseudonym_of_reference(reference) if reference else reference

    def user(self, user_ref: str) -> str:
        return self._digests.pseudonym_of_user(user_ref) if user_ref else user_ref

    def verdict(self, verdict: Verdict) -> Verdict:
        return replace(
            verdict,
            reference=verdict.reference and self.reference(verdict.reference),
            user_ref=verdict.user_ref and self.user(verdict.user_ref),
        )

    def originals(self, verdict: Verdict) -> tuple[str | None, str | None]:
        return (verdict.reference or None, verdict.user_ref or None)


CLEAR = Names()


def is_pseudonym(text: object) -> bool:
    """Return whether a text has the shape of what stands for a name."""
    return isinstance(text, str) and _SHAPE.fullmatch(text) is not None


def of(transaction: Transaction) -> Names:
    """Return what turns names into what stands for them in this database. It is read once, but by
    a command, which `rekey --names` does not wait for, again while names are in clear. Raise
    ConvertingError while some are in clear yet, SealedNamesError when the key is not here."""
    vault = transaction.vault
    if vault is None:  # a daemon without it does not start where they are sealed
        return CLEAR
    names: Names = vault.names or read(transaction)
    if names.is_sealed or not vault.is_of_command:
        vault.names = names
    return names


def read(transaction: Transaction) -> Names:
    """Return the same, read now, also for who has no vault: for commands."""
    match naming(transaction):
        case None:
            return CLEAR
        case Naming.CONVERTING:
            raise ConvertingError
        case found:
            try:
                return Pseudonyms(Digests.of(transaction), were_clear=found is Naming.CONVERTED)
            except LacksKeyError:
                raise SealedNamesError from None


def naming(transaction: Transaction) -> Naming | None:
    """Return whether names are sealed in this database; None: they are in clear. What somebody has
    written there by hand is no reason to store one in clear."""
    row = transaction.row(_NAMING)
    if row is None or row[0] is None:
        return None
    return Naming(row[0]) if row[0] in list(Naming) else Naming.CONVERTED


def originals(transaction: Transaction, pseudonyms: Collection[str]) -> dict[str, str]:
    """Return what these stand for, as far as an event of each can be opened here."""
    wanted = sorted(set(filter(is_pseudonym, pseudonyms)))
    found: dict[str, str] = {}
    with contextlib.suppress(LacksKeyError):
        for first_ids, name_of in ((_FIRST_OF_REFERENCE, _REFERENCES), (_FIRST_OF_USER, _USERS)):
            ids = [number for _, number in transaction.look_up(first_ids, wanted)]
            rows = transaction.look_up(name_of, ids)
            found |= {stored: name for stored, name in rows if isinstance(name, str)}
    return found


_First = DigestKey.alias()
_NAMING = Statement(
    DigestKey.select(DigestKey.names).where(DigestKey.id == _First.select(fn.MIN(_First.id)))
)
_FIRST_OF_REFERENCE = Lookup(
    Event.select(Event.reference, fn.MIN(Event.id)).group_by(Event.reference), Event.reference
)
_FIRST_OF_USER = Lookup(
    Event.select(Event.user_ref, fn.MIN(Event.id)).group_by(Event.user_ref), Event.user_ref
)
_REFERENCES = Lookup(Event.select(Event.reference, Event.sealed_reference), Event.id)
_USERS = Lookup(Event.select(Event.user_ref, Event.sealed_user_ref), Event.id)
