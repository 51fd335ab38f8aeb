"""An event with all that became of it, as people are shown it: masked, or revealed on record."""

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peewee import Database

from premblyd.prembly import bodies
from premblyd.privacy import documents
from premblyd.record import asking, browsing, contradictions, reading
from premblyd.record.choosing import DeliveryFilter
from premblyd.record.operating import RecordedReveal
from premblyd.record.rows import AttemptRow, AwaitedRow, DeliveryRow, InquiryRow, WholeEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownDelivery:
    """A delivery's columns, masked or not, and its attempts."""

    columns: Mapping[str, Any]
    attempts: Sequence[AttemptRow]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownEvent:
    """An event's columns, masked or not, its body, its deliveries, and how its verification was
    awaited, the oldest first.

    `columns` have `headers`, as pairs, only when it is revealed. `body` is a JSON object, a text
    where it is none, or the mask.
    """

    columns: Mapping[str, Any]
    contradicted: bool  # by Prembly
    body: Any
    deliveries: Sequence[ShownDelivery]
    awaited: Sequence[Mapping[str, Any]]
    inquiries: Sequence[InquiryRow]  # to Prembly, about it

    def as_json(self) -> dict[str, Any]:
        """Return what `premblyd show --json` prints."""
        deliveries = [
            {**delivery.columns, "attempts": [dataclasses.asdict(row) for row in delivery.attempts]}
            for delivery in self.deliveries
        ]
        parts = {
            "contradicted": self.contradicted,
            "body": self.body,
            "deliveries": deliveries,
            "awaited": list(self.awaited),
            "inquiries": [dataclasses.asdict(row) for row in self.inquiries],
        }
        return {**self.columns, **parts}


def revealed(
    database: Database, recorded: RecordedReveal, newest_attempts: int | None = None
) -> ShownEvent:
    """Return the event with its personal data, which it is on record that somebody sees; of each
    delivery the `newest_attempts`, or all."""
    event = reading.find_event(database, str(recorded.event_id))
    document = _document(event)
    return ShownEvent(
        columns={**_columns(event), "headers": _headers(event)},
        contradicted=contradictions.of_event(database, event.id),
        body=event.body.decode("utf-8", "replace") if document is None else document,
        deliveries=[
            ShownDelivery(columns=dataclasses.asdict(delivery), attempts=attempts)
            for delivery, attempts in _deliveries(database, event, newest_attempts)
        ],
        awaited=[dataclasses.asdict(row) for row in _awaited(database, event)],
        inquiries=asking.inquiries(database, event),
    )


def masked(
    database: Database,
    event: WholeEvent,
    newest_attempts: int | None = None,
    *,
    plain: Collection[str] = (),
) -> ShownEvent:
    """Return the event without personal data; of each delivery the `newest_attempts`, or all. What
    a hook printed is hidden, save that of the `plain` actions: only these say that it is harmless.
    """
    stored = _columns(event)
    columns = event.masked()
    del stored["headers"], columns["headers"], columns["body"]
    document = _document(event)
    body: Any = documents.MASK
    hidden = [str(stored[name]) for name in columns if columns[name] != stored[name]]
    if document is not None:
        mask = documents.mask_document(document)
        body = mask.document
        hidden += mask.hidden
    if columns["detail"]:
        columns["detail"] = documents.without_words_of(hidden, columns["detail"])
    return ShownEvent(
        columns=columns,
        contradicted=contradictions.of_event(database, event.id),
        body=body,
        deliveries=[
            ShownDelivery(
                columns=delivery.masked(),
                attempts=[
                    AttemptRow(**each.masked(["output"] if delivery.action in plain else []))
                    for each in attempts
                ],
            )
            for delivery, attempts in _deliveries(database, event, newest_attempts)
        ],
        awaited=[row.masked() for row in _awaited(database, event)],
        inquiries=[InquiryRow(**row.masked()) for row in asking.inquiries(database, event)],
    )


def _columns(event: WholeEvent) -> dict[str, Any]:
    columns = dataclasses.asdict(event)
    del columns["body"]
    return columns


def _headers(event: WholeEvent) -> Any:
    """Return the headers as pairs; as one, when somebody has changed them."""
    try:
        headers = json.loads(event.headers)
        return [[str(name), str(value)] for name, value in headers]
    except (ValueError, TypeError):
        return [["headers", str(event.headers)]]


def _document(event: WholeEvent) -> dict[str, Any] | None:
    """Return the JSON object in the body; None when there is none, or it is nested too deeply."""
    document = bodies.parse(event.body)
    return None if documents.is_deep(document) else document


def _awaited(database: Database, event: WholeEvent) -> list[AwaitedRow]:
    return asking.awaited_of(database, event.id, event.reference)


def _deliveries(
    database: Database, event: WholeEvent, newest_attempts: int | None
) -> list[tuple[DeliveryRow, list[AttemptRow]]]:
    """Return the event's deliveries, the oldest first, each with its attempts."""
    deliveries = browsing.rows(database, DeliveryFilter(event_id=event.id))[::-1]
    attempts: dict[int, list[AttemptRow]] = {delivery.id: [] for delivery in deliveries}
    for attempt in reading.attempts(database, attempts, newest_attempts):
        attempts[attempt.delivery_id].append(attempt)
    return [(delivery, attempts[delivery.id]) for delivery in deliveries]
