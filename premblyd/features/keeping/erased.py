"""Keeps erased data away: recognises by digests arrivals about an erased person, and webhooks with
a deleted record.

An erasure and an arrival at the same moment, on two hosts, must not miss each other. So who erases
is alone (`Database.transact`): nobody else writes meanwhile, and each sees what the other has
stored. What was under way, a hook or a question to Prembly, is kept by statements that look whether
its event was erased.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from peewee import Node, Select, fn

from premblyd.features.keeping.tables import ErasedEvent, ErasedName, GoneEvent, ToErase
from premblyd.ground.privacy import MASK, Shape, mask
from premblyd.prembly.payload import plain_id, session_reference
from premblyd.queue.digests import Digests
from premblyd.store.columns import PLAIN, Kept, columns, emptied
from premblyd.store.engine import BulkInsert, Lookup, Statement, Transaction
from premblyd.store.states import RemovedParts
from premblyd.store.tables import Event, Record


class NameDigests(Digests):
    """Makes what stands for names that were erased, or are on hold."""

    def of_reference(self, reference: str) -> str:
        """Return what stands for a reference, in all of its spellings."""
        return self._digest(b"reference", plain_id(reference))

    def of_session(self, session_id: str) -> str:
        """Return what stands for the id of a session, in all of its spellings."""
        return self._digest(b"session", plain_id(session_id))

    def of_user(self, user_ref: str) -> str:
        """Return what stands for a person's `user_ref`."""
        return self._digest(b"user", user_ref)

    def of_event(self, event_id: int) -> str:
        """Return what stands for one event that somebody named."""
        return self._digest(b"event", str(event_id))


class Names(NamedTuple):
    """By which an arrival is known. `others`: each a reference or the id of a session."""

    reference: str | None = None
    session_id: str | None = None
    others: Collection[str] = ()

    def digests(self, digests: NameDigests) -> list[str]:
        """Return the digests of all of them."""
        references = [self.reference, *self.others, *map(session_reference, self.others)]
        found = [digests.of_reference(each) for each in references if each]
        return found + [
            digests.of_session(each) for each in (self.session_id, *self.others) if each
        ]


def removed_events(transaction: Transaction, keys: Collection[str]) -> dict[str, int]:
    """Return the numbers that the events with these keys had whose records were removed."""
    return dict(transaction.look_up(_GONE_EVENTS, sorted(keys)))


def find_erased(transaction: Transaction, names: Sequence[Names]) -> list[int | None]:
    """Return for each arrival the first erasure that covers it: by a reference, in any
    spelling, or a session. None: it is not."""
    digests = NameDigests.of(transaction)
    own = [each.digests(digests) for each in names]
    wanted = sorted({digest for its in own for digest in its})
    by_name: dict[str, int] = dict(transaction.look_up(_ERASED_NAMES, wanted))
    return [min((by_name[each] for each in its if each in by_name), default=None) for its in own]


def which_erased(transaction: Transaction, ids: Collection[str]) -> set[str]:
    """Return those of these ids that were erased, each a reference or the id of a session."""
    if not ids or not any((transaction.row(GONE) or ())[:1]):
        return set()
    found = find_erased(transaction, [Names(others=[each]) for each in ids])
    return {each for each, erasure_id in zip(ids, found, strict=True) if erasure_id}


def without_person(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of an event that is stored already erased: nothing is left that names a
    person, and of what a sender wrote only what has the shape that it should have."""
    empty = emptied(Event, Kept.BODY, Kept.IDENTITY)
    kept = {name: empty.get(name, value) for name, value in values.items()}
    kept.update(harmless(kept))
    return kept | {"removed_parts": RemovedParts.ERASED}


def harmless(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of an event's columns that are plain but were written by a sender, as they may
    stay when its person is erased: as they are shown, or emptied where that hides them."""
    shown = {name: mask(values[name], SENDERS[name].shown) for name in SENDERS if name in values}
    return {
        name: SENDERS[name].emptied if value == MASK else value for name, value in shown.items()
    }


def is_erased(*event_ids: Node) -> Node:
    """Return the condition that an event of one of these ids was erased, or is to be by an erasure
    that has begun."""
    ids = Event.select(Event.id).where(
        Event.id.in_(event_ids), Event.removed_parts == RemovedParts.ERASED
    )
    left = ToErase.select(ToErase.id).where(ToErase.event_id.in_(event_ids))
    either: Node = fn.EXISTS(ids) | fn.EXISTS(left)
    return either


SENDERS = {
    column.name: column
    for column in columns(Event)
    if column.holds is PLAIN and column.shown is not Shape.PLAIN
}
MARK_ERASED = BulkInsert(ErasedEvent, "event_id", "erasure_id")
# The last that was erased, the last event whose record was removed, each None if there is none, and
# the trusted time (trusted.py): in one, since each costs a way to the server.
GONE = Statement(
    Select(
        None,
        (
            ErasedName.select(fn.MAX(ErasedName.id)),
            GoneEvent.select(fn.MAX(GoneEvent.id)),
            Record.select(Record.trusted_ms).where(Record.id == 1),
        ),
    )
)
_ERASED_NAMES = Lookup(ErasedName.select(ErasedName.name, ErasedName.erasure_id), ErasedName.name)
_GONE_EVENTS = Lookup(GoneEvent.select(GoneEvent.key, GoneEvent.event_id), GoneEvent.key)
