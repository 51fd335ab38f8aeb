"""Storing the events of webhooks: finds duplicates, and stores the others together."""

import functools
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Literal, NamedTuple

from premblyd.features.keeping import erased
from premblyd.features.keeping.erased import ArrivalFacts, Erased
from premblyd.features.keeping.erasedarrivals import ErasedArrivals
from premblyd.prembly.payload import Webhook
from premblyd.queue import trusted
from premblyd.queue.digests import KEY_DIGITS, Digests
from premblyd.queue.recovery import VERDICT_COLUMNS
from premblyd.queue.spellings import reference_key
from premblyd.store.engine import BulkInsert, Lookup, Row, Transaction, param
from premblyd.store.portions import of_size
from premblyd.store.tables import Delivery, Event

PORTION_BYTES = 1 << 20
By = Literal["body", "token"]  # see config.inquiries.Duplicates


class NewEvent(NamedTuple):
    """An event to store, unless it is already there. `erasure_id`: of the erasure of another of its
    names."""

    key: str
    body_bytes: int
    row: Row
    erasure_id: int | None = None


class Known(NamedTuple):
    """What the record knows of some events: `keys` has the key of each, `ids` the event of each key
    that is there, `new` those that are not, and `erased` by which erasure some are erased."""

    keys: list[str]
    ids: dict[str, int]
    new: dict[str, NewEvent]
    erased: dict[str, Erased]
    facts: ArrivalFacts


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


def new_event(digests: Digests, webhook: Webhook, by: By = "body") -> NewEvent:
    """Return the event that is stored of `webhook`, with its key `by` this rule."""
    key = event_key(digests, webhook, by)
    verdict = webhook.verdict
    spelling = reference_key(verdict.reference)
    derived = (key, digests.of_body(webhook.body_sha256), len(webhook.body), spelling)
    row = (*derived, *_verdict_values(verdict), *_webhook_values(webhook))
    return NewEvent(key, len(webhook.body), row)


def find(transaction: Transaction, events: Sequence[NewEvent]) -> Known:
    """Find which of these events are there already, or were until their record was removed."""
    keys = [event.key for event in events]
    stored = transaction.ask_for(_IDS_BY_KEY, keys)
    facts = erased.arrival_facts(transaction)
    ids: dict[str, int] = dict(stored())
    if facts.any_events:
        ids |= erased.removed_events(transaction, [key for key in keys if key not in ids])
    new: dict[str, NewEvent] = {}
    for key, event in zip(keys, events, strict=True):
        if key not in ids:
            new.setdefault(key, event)  # another with this key is a duplicate of it
    of_erased: dict[str, Erased] = {}
    if facts.any_names:
        rows = {key: event.row for key, event in zip(keys, events, strict=True)}
        known = {key: event.erasure_id for key, event in zip(keys, events, strict=True)}
        of_erased = ERASED_ARRIVALS.find(transaction, rows, known)
    return Known(keys, ids, new, of_erased, facts)


def store(transaction: Transaction, known: Known) -> Known:
    """Store those that are new, and return what is known then.

    On SQLite nobody else writes meanwhile, so no key is stored between the look-up and the insert.
    An INSERT that leaves out duplicates would use up a number for each, and to an auditor a number
    that is missing is a deletion.
    """
    ids, new = dict(known.ids), dict(known.new)
    rows = {key: event.row for key, event in new.items() if key in known.erased}
    if known.facts.any_names:
        ids |= ERASED_ARRIVALS.insert(transaction, rows, known.erased)
    whole = [new[key] for key in new if key not in known.erased]
    ids |= _insert(transaction, whole)
    if late := [key for key in new if key not in ids]:
        # Another host has stored these in this moment: here they are duplicates.
        ids |= dict(transaction.look_up(_IDS_BY_KEY, late))
        for key in late:
            del new[key]
    return known._replace(ids=ids, new=new)


def may_be_stored_later(transaction: Transaction, known: Known, now_ms: int) -> bool:
    """Return whether nothing is said of these events, the first of which came at `now_ms`, but that
    they are new, or there: then `asking_store` stores them."""
    # Two of one key are one event, and a duplicate of it.
    has_again = sum(key in known.new for key in known.keys) > len(known.new)
    is_behind = trusted.is_behind(known.facts.trusted_ms, now_ms)
    return transaction.is_far and not (known.erased or has_again or is_behind)


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


def _insert(transaction: Transaction, events: Sequence[NewEvent]) -> dict[str, int]:
    """Insert events that are not there yet; return the ids of those that are new, by key."""
    ids: list[int | None] = []
    # A statement copies all that it is given.
    for rows in of_size([(event.row, event.body_bytes) for event in events], PORTION_BYTES):
        ids += transaction.insert_many(_INSERT_EVENTS, rows)
    keys = (event.key for event in events)
    return {key: id_ for key, id_ in zip(keys, ids, strict=True) if id_ is not None}


_DERIVED_COLUMNS = ("key", "body_digest", "body_bytes", "reference_key")
_WEBHOOK_COLUMNS = tuple(field.name for field in fields(Webhook) if field.name != "verdict")
_COLUMNS = (*_DERIVED_COLUMNS, *VERDICT_COLUMNS, *_WEBHOOK_COLUMNS)
_verdict_values = attrgetter(*VERDICT_COLUMNS)
_webhook_values = attrgetter(*_WEBHOOK_COLUMNS)

_INSERT_EVENTS = BulkInsert(Event, *_COLUMNS, unique="key")
_INSERT_NEW = BulkInsert(Event, *_COLUMNS)
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
ERASED_ARRIVALS = ErasedArrivals(_INSERT_EVENTS, INSERT_DELIVERIES)
