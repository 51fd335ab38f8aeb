"""Everything that is stored about a person, as an erasure would change it."""

import itertools
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from peewee import fn

from premblyd.features.keeping import holds, personrows, persons
from premblyd.features.keeping.personrows import ByTable, Names
from premblyd.features.keeping.persons import FoundBy, Named, Person
from premblyd.features.keeping.tables import Erasure, Hold, ToErase
from premblyd.prembly.payload import plain_id, session_reference
from premblyd.queue import heartbeat
from premblyd.queue.digests import Digests
from premblyd.store.engine import Lookup, Row, Statement, Transaction, param
from premblyd.store.tables import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """An erasure of the same that was done before."""

    id: int
    at_ms: int
    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Everything stored about a person now: what an erasure would change."""

    person: Person
    names: Names = field(repr=False)
    digests: frozenset[str]  # of the names under which nothing could be stored any more
    keys: dict[int, str]  # of the events that would be erased
    meant: Names = field(repr=False)  # by which rows about no event are found
    about: ByTable
    eventless: ByTable
    waiting: int  # deliveries that would be cancelled
    hold_ids: list[int]  # the holds in force
    newest_hold: Row | None  # of all
    earlier: list[Earlier]
    is_unfinished: bool  # an earlier command was ended before it was done

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing that could be erased."""
        return not self.is_unfinished and not any(self.rows.values())

    @property
    def rows(self) -> dict[str, int]:
        """How many rows of each table say something of the person."""
        return rows_of(self.keys, self.about, self.eventless)


def rows_of(event_ids: Collection[int], *found: ByTable) -> dict[str, int]:
    """Return how many rows of each table these are."""
    rows = Counter({"event": len(event_ids)})
    for table, ids in itertools.chain.from_iterable(each.items() for each in found):
        rows[table] += len(ids)
    return dict(rows)


def look(transaction: Transaction, named: Named, now_ms: int) -> Findings:
    """Return what is stored under the given names. It only reads."""
    person = persons.find(transaction, named)
    digests = Digests.of(transaction)
    subject = person.named.digest(digests)
    rows = transaction.look_up(NAMES_OF_EVENTS, person.event_ids)
    spelt = frozenset(reference for _, _, reference, _ in rows if isinstance(reference, str))
    names = Names(person.user_refs, person.references | spelt, person.sessions)
    # What is under a name that a stranger has too is left to them, as their events are.
    own = frozenset(each for each in names.references if plain_id(each) not in person.shared)
    meant = Names(names.user_refs, own, names.sessions - person.shared)
    if person.named.by is not FoundBy.USER_REF:  # of who has it there may be other events
        meant = meant._replace(user_refs=frozenset())
    if person.named.by is FoundBy.EVENT:  # and of its reference too
        meant = meant._replace(references=frozenset(), sessions=frozenset())
    return Findings(
        person=person,
        names=names,
        digests=_digests_of(person, digests),
        keys={number: key for number, key, *_ in rows},
        meant=meant,
        about=personrows.about(transaction, person.event_ids),
        eventless=personrows.eventless(transaction, meant),
        waiting=len(personrows.waiting(transaction, person.event_ids)),
        hold_ids=_hold_ids(transaction, person, now_ms),
        earlier=earlier(transaction, person.named),
        newest_hold=transaction.row(NEWEST_HOLD),
        is_unfinished=transaction.row(UNFINISHED, subject=subject) is not None,
    )


def earlier(transaction: Transaction, named: Named) -> list[Earlier]:
    """Return the erasures of what is named, the newest first."""
    subject = named.digest(Digests.of(transaction))
    rows = transaction.rows(_EARLIER, subject=subject)
    return [Earlier(id=number, at_ms=at_ms, actor=actor) for number, at_ms, actor in rows]


def _hold_ids(transaction: Transaction, person: Person, now_ms: int) -> list[int]:
    """Return the holds on the person, of whom there may be no event yet, and on each event: whose
    verification, or whose person, another one may say."""
    # A hold may be on the id of a session, as if that were a reference.
    sessions = set(map(plain_id, person.sessions))
    now_ms = heartbeat.counted_ms(transaction, now_ms)  # by no clock alone is a hold over
    found = holds.on(transaction, person.user_refs, person.references | sessions, now_ms)
    return sorted({*found, *holds.on_events(transaction, person.event_ids, now_ms)})


def _digests_of(person: Person, digests: Digests) -> frozenset[str]:
    """Return what stands for the names under which nothing may be stored any more: those that no
    stranger has too. Of one event, none: others of its reference may come."""
    if person.named.by is FoundBy.EVENT:
        return frozenset()
    sessions = person.sessions - person.shared
    references = (person.references - person.shared) | set(map(session_reference, sessions))
    of_references = map(digests.of_reference, references)
    return frozenset((*of_references, *map(digests.of_session, sessions)))


NAMES_OF_EVENTS = Lookup(
    Event.select(Event.id, Event.key, Event.reference, Event.session_id), Event.id
)
NEWEST_HOLD = Statement(Hold.select(fn.MAX(Hold.id)))
UNFINISHED = Statement(
    Erasure.select(Erasure.id, Erasure.at_ms, Erasure.cancelled)
    .where(
        Erasure.subject == param("subject"),
        fn.EXISTS(ToErase.select(ToErase.id).where(ToErase.erasure_id == Erasure.id)),
    )
    .order_by(Erasure.id)
    .limit(1)
)
_EARLIER = Statement(
    Erasure.select(Erasure.id, Erasure.at_ms, Erasure.actor)
    .where(Erasure.subject == param("subject"))
    .order_by(Erasure.id.desc())
)
