"""The events of webhooks: finds duplicates, stores the others together, and reads them again for
hooks. If somebody made a row unreadable, its delivery ends dead, with the reason."""

import functools
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, Literal, NamedTuple, Self, TypeVar

from premblyd.ground.errors import PremblydError
from premblyd.prembly.payload import Kind, Outcome, StoredEvent, Verdict, Webhook, plain_id
from premblyd.queue.digests import KEY_DIGITS, Digests
from premblyd.store.engine import BulkInsert, Lookup, Row, Transaction, param
from premblyd.store.states import RemovedParts
from premblyd.store.tables import Delivery, Event

T = TypeVar("T")
PORTION_BYTES = 1 << 20
By = Literal["body", "token"]  # see config.models.Duplicates


class NewEvent(NamedTuple):
    """An event to store, unless it is already there. `names`: further ones of its verification,
    each a reference or the id of a session."""

    key: str
    body_bytes: int
    row: Row
    names: Collection[str] = ()

    @property
    def values(self) -> dict[str, Any]:
        """What is stored, by the names of columns."""
        return dict(zip(COLUMNS, self.row, strict=True))

    def having(self, **changed: Any) -> Self:
        """Return it with other values."""
        return self._replace(row=tuple((self.values | changed).values()))


@dataclass(slots=True)
class Known:
    """What the record knows of some events: `ids` has the event of each key that is there, or was,
    `new` those that are not, and `erased` the keys of what is about somebody who was erased.
    `beside`: rows of features about new events: the statement that inserts them, and by the
    event's key what stands behind its id."""

    events: Sequence[NewEvent]
    ids: dict[str, int]
    new: dict[str, NewEvent]
    erased: set[str] = field(default_factory=set)
    beside: list[tuple[BulkInsert, Mapping[str, Row]]] = field(default_factory=list)


# Asks the database, and returns what then changes what is known: see hooks.py.
Arriving = Callable[[Transaction], Callable[[Known], None]]


def event_key(digests: Digests, webhook: Webhook, by: By = "body") -> str:
    """Return the key of `webhook`: two with the same key are duplicates.

    By body: endpoint and body, if the body has an id of its own. Nobody signs the token, so whoever
    saw a webhook can send it again with another. By token, or without such an id: endpoint, token
    and body. The token alone would not tell: PENDING and the later VERIFIED of one verification may
    share it.

    With nothing to go by the key is random, because small bodies of different verifications may
    be the same bytes.
    """
    verdict = webhook.verdict
    if by == "body" and (verdict.reference or verdict.session_id):
        return digests.key(b"event key", webhook.endpoint, "", end=webhook.body_sha256)
    if webhook.token or verdict.reference:
        token = webhook.token or ""
        return digests.key(b"event key", webhook.endpoint, token, end=webhook.body_sha256)
    return secrets.token_hex(KEY_DIGITS // 2)


def reference_key(reference: str | None) -> str | None:
    """Return what a row with this reference has as its key."""
    plain = plain_id(reference) if reference else None
    return None if plain == reference else plain


def new_event(digests: Digests, webhook: Webhook, by: By = "body") -> NewEvent:
    """Return the event that is stored of `webhook`, with its key `by` this rule."""
    key = event_key(digests, webhook, by)
    verdict = webhook.verdict
    spelling = reference_key(verdict.reference)
    derived = (key, digests.of_body(webhook.body_sha256), len(webhook.body), spelling, None)
    row = (*derived, *_verdict_values(verdict), *_webhook_values(webhook))
    return NewEvent(key, len(webhook.body), row)


def find(
    transaction: Transaction, arriving: Sequence[Arriving], events: Sequence[NewEvent]
) -> Known:
    """Find which of these events are there already, and what features say of them."""
    stored = transaction.ask_for(_IDS_BY_KEY, [event.key for event in events])
    decide = [hook(transaction) for hook in arriving]
    ids: dict[str, int] = dict(stored())
    new: dict[str, NewEvent] = {}
    for event in events:
        if event.key not in ids:
            new.setdefault(event.key, event)  # another with this key is a duplicate of it
    known = Known(events, ids, new)
    for each in decide:
        each(known)
    return known


def store(transaction: Transaction, known: Known) -> None:
    """Store those that are new. Then it is known what is there.

    On SQLite nobody else writes meanwhile, so no key is stored between the look-up and the insert.
    An INSERT that leaves out duplicates would use up a number for each, and to an auditor a number
    that is missing is a deletion.
    """
    ids: list[int | None] = []
    # A statement copies all that it is given.
    sizes = [(event.row, event.body_bytes) for event in known.new.values()]
    for portion in of_size(sizes, PORTION_BYTES):
        ids += transaction.insert_many(_INSERT, portion)
    stored = zip(known.new, ids, strict=True)
    known.ids |= {key: id_ for key, id_ in stored if id_ is not None}
    if late := [key for key in known.new if key not in known.ids]:
        # Another host has stored these in this moment: here they are duplicates.
        known.ids |= dict(transaction.look_up(_IDS_BY_KEY, late))
        for key in late:
            del known.new[key]
    for inserting, rows in known.beside:
        its = [(known.ids[key], *row) for key, row in rows.items() if key in known.new]
        transaction.write_many(inserting, its)


def may_be_stored_later(known: Known) -> bool:
    """Return whether nothing is said of these events but that they are new, or there: then
    `asking_store` stores them."""
    if known.erased or known.beside:
        return False
    # Two of one key are one event, and a duplicate of it.
    return sum(event.key in known.new for event in known.events) == len(known.new)


def asking_store(transaction: Transaction, known: Known) -> Callable[[], Mapping[str, int]]:
    """Have those that are new stored; return what reads their ids, by their keys. What else is
    stored of them names them by their keys meanwhile.

    When another host stores one in this moment, the transaction fails by the index of the keys. It
    is tried again then, and finds it."""
    rows = [event.row for event in known.new.values()]
    ids = transaction.inserting_many(_INSERT_NEW, rows)

    @functools.cache  # it can be read once
    def by_key() -> Mapping[str, int]:
        return {key: id_ or 0 for key, id_ in zip(known.new, ids(), strict=True)}

    return by_key


_DERIVED_COLUMNS = ("key", "body_digest", "body_bytes", "reference_key", "removed_parts")
VERDICT_COLUMNS = tuple(field.name for field in fields(Verdict))
_WEBHOOK_COLUMNS = tuple(field.name for field in fields(Webhook) if field.name != "verdict")
COLUMNS = (*_DERIVED_COLUMNS, *VERDICT_COLUMNS, *_WEBHOOK_COLUMNS)
_verdict_values = attrgetter(*VERDICT_COLUMNS)
_webhook_values = attrgetter(*_WEBHOOK_COLUMNS)

_INSERT = BulkInsert(Event, *COLUMNS, unique="key")
_INSERT_NEW = BulkInsert(Event, *COLUMNS)
_IDS_BY_KEY = Lookup(Event.select(Event.key, Event.id), Event.key)
INSERT_DELIVERIES = BulkInsert(
    Delivery, "event_id", "action", "state", "due_at_ms", "attempts_left", "created_at_ms"
)
# The same, of events whose ids are not read yet: each row has the key of its event.
INSERT_DELIVERIES_BY_KEY = BulkInsert(
    Delivery,
    *INSERT_DELIVERIES.columns,
    found={"event_id": Event.select(Event.id).where(Event.key == param("event_id"))},
)
EVENT_COLUMNS = (*_WEBHOOK_COLUMNS, "id", "key", "removed_parts", *VERDICT_COLUMNS)
_VERDICT_AT = len(EVENT_COLUMNS) - len(VERDICT_COLUMNS)


class UnusableError(PremblydError):
    """The hook of a delivery can't run, because somebody changed its event, or it was deleted."""


def usable_event(row: Sequence[Any] | None) -> StoredEvent:
    """Return the event of a row of `EVENT_COLUMNS`. Raise UnusableError when there is none, or it
    can't be used."""
    if row is None:
        raise UnusableError("its event is no longer in the database")
    values = dict(zip(EVENT_COLUMNS[:_VERDICT_AT], row[:_VERDICT_AT], strict=True))
    verdict = dict(zip(VERDICT_COLUMNS, row[_VERDICT_AT:], strict=True))
    try:
        verdict["kind"], verdict["outcome"] = Kind(verdict["kind"]), Outcome(verdict["outcome"])
    except ValueError:
        raise UnusableError("its event was changed and can't be read") from None
    if verdict["face_match"] is not None:
        verdict["face_match"] = bool(verdict["face_match"])
    body = values.pop("body")
    return StoredEvent(
        verdict=Verdict(**verdict),
        body=body or b"",
        has_body=body is not None,
        is_erased=values.pop("removed_parts") == RemovedParts.ERASED,
        **values,
    )


def of_size(sizes: Iterable[tuple[T, int]], most_bytes: int) -> Iterator[list[T]]:
    """Split the events that are read or written at once, each with the size of its body, so that
    their bodies find room."""
    portion: list[T] = []
    total = 0
    for event, body_bytes in sizes:
        if portion and total + body_bytes > most_bytes:
            yield portion
            portion, total = [], 0
        portion.append(event)
        total += body_bytes
    yield portion
