"""One event with everything about it, as people see it: masked, or revealed and recorded. Begin
with `masked`. Lists are in lists.py."""

import dataclasses
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peewee import Expression

from premblyd.config.models import Config
from premblyd.feature import added
from premblyd.ground import privacy
from premblyd.ground.errors import NotFoundError
from premblyd.prembly import bodies
from premblyd.record import lists, queries
from premblyd.record.filters import DeliveryFilter
from premblyd.record.operating import RecordedReveal
from premblyd.record.queries import Row, row_of
from premblyd.record.told import Told
from premblyd.store.columns import Kept, Seen, emptied
from premblyd.store.engine import Database
from premblyd.store.tables import Attempt, Delivery, Event

MAX_STRING_CHARS = 1024  # a longer one is a photo
MAX_TEXT_CHARS = 65_536
MAX_LINES = 2000
Show = Callable[..., dict[str, Any]]  # the columns of a row as people see them


@row_of(Event, Seen.EVENT)
class WholeEvent(Row):
    """An event with its payload and its secrets."""


@row_of(Attempt, Seen.EVENT)
class AttemptRow(Row):
    """One run of a delivery's hook, with what that printed."""


def find_event(database: Database, number_or_key: str) -> WholeEvent:
    """Return a whole event by its number or its key. Raise NotFoundError when there is none."""
    query = Event.select(*queries.columns(Event, WholeEvent)).where(_has_name(number_or_key))
    found = queries.rows(database, query, WholeEvent)
    if not found:
        raise _no_event(number_or_key)
    return found[0]


def find_event_id(database: Database, number_or_key: str) -> int:
    """Return the number of the event with this number or key. Raise NotFoundError when there is
    none."""
    found = queries.value(database, Event.select(Event.id).where(_has_name(number_or_key)))
    if found is None:
        raise _no_event(number_or_key)
    return int(found)


def _no_event(number_or_key: str) -> NotFoundError:
    return NotFoundError(f"There is no event {number_or_key}. `premblyd events` lists them.")


def _has_name(number_or_key: str) -> Expression:
    """Return the condition that an event has this number or key."""
    if number_or_key.isdecimal() and len(number_or_key) < 19:
        return Event.id == int(number_or_key)
    return Event.key == number_or_key


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownDelivery:
    """A delivery's columns, masked or not, and its attempts."""

    columns: Mapping[str, Any]
    attempts: Sequence[AttemptRow]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownEvent:
    """An event's columns, masked or not, its body, its deliveries, and what features tell of it.

    `columns` have `headers`, as pairs, only when it is revealed. `body` is a JSON object, a text
    where it is none, or the mask; None: it is gone. `has_person`: whether anything is left that
    names somebody.
    """

    columns: Mapping[str, Any]
    body: Any
    has_person: bool
    deliveries: Sequence[ShownDelivery]
    told: Sequence[Told]

    @property
    def values(self) -> dict[str, Any]:
        """What features tell, by its names in JSON."""
        return {name: value for each in self.told for name, value in each.values.items()}

    @property
    def sentences(self) -> list[str]:
        """What features tell people."""
        return [sentence for each in self.told for sentence in each.sentences]

    def as_json(self) -> dict[str, Any]:
        """Return what `premblyd show --json` prints."""
        return {
            **self.columns,
            "body": self.body,
            "deliveries": [{**each.columns, "attempts": each.attempts} for each in self.deliveries],
            **self.values,
        }


def revealed(
    database: Database,
    recorded: RecordedReveal,
    newest_attempts: int | None = None,
    *,
    settings: Config | None = None,
) -> ShownEvent:
    """Return the event with its personal data, which it is on record that somebody sees; of each
    delivery the `newest_attempts`, or all."""
    event = find_event(database, str(recorded.event_id))
    columns = {**_columns(event), "headers": _headers(event)}
    body: Any = None
    if has_body(event):
        body = _document(event)
        if body is None:
            body = event.body.decode("utf-8", "replace")

    def show(row: Row, action: str = "") -> dict[str, Any]:
        return dataclasses.asdict(row)

    return _shown(database, event, columns, body, newest_attempts, show, settings)


def masked(
    database: Database,
    event: WholeEvent,
    newest_attempts: int | None = None,
    *,
    plain: Collection[str] = (),
    settings: Config | None = None,
) -> ShownEvent:
    """Return the event without personal data; of each delivery the `newest_attempts`, or all. What
    a hook printed is hidden, save that of the `plain` actions: only these say that it is harmless.
    """
    stored = _columns(event)
    columns = event.masked()
    del stored["headers"], columns["headers"], columns["body"]
    document = _document(event)
    body: Any = privacy.MASK if has_body(event) else None
    hidden = [str(stored[name]) for name in columns if columns[name] != stored[name]]
    if document is not None:
        mask = privacy.mask_document(document)
        body = mask.document
        hidden += mask.hidden
    if columns["detail"]:
        columns["detail"] = privacy.without_words_of(hidden, columns["detail"])

    def show(row: Row, action: str = "") -> dict[str, Any]:
        return row.masked(["output"] if action in plain else [])

    return _shown(database, event, columns, body, newest_attempts, show, settings)


def _shown(
    database: Database,
    event: WholeEvent,
    columns: Mapping[str, Any],
    body: Any,
    newest_attempts: int | None,
    show: Show,
    settings: Config | None,
) -> ShownEvent:
    """Return an event with all that became of it. `show` returns a row's columns as they are shown,
    of an attempt those for its action."""
    deliveries = lists.rows(database, DeliveryFilter(event_id=event.id))[::-1]
    attempts: dict[int, list[AttemptRow]] = {delivery.id: [] for delivery in deliveries}
    action_of = {delivery.id: delivery.action for delivery in deliveries}
    for attempt in attempts_of(database, attempts, newest_attempts):
        shown = AttemptRow(**show(attempt, action_of[attempt.delivery_id]))
        attempts[attempt.delivery_id].append(shown)
    return ShownEvent(
        columns=columns,
        body=body,
        has_person=has_person(event),
        deliveries=[
            ShownDelivery(columns=show(delivery), attempts=attempts[delivery.id])
            for delivery in deliveries
        ],
        told=[tell(database, event, show, settings) for tell in added("shown", "OF_EVENT")],
    )


def body_lines(body: Any) -> Iterator[str]:
    """Yield a body for people: photos as their size, and not more lines than anybody reads."""
    if isinstance(body, str):
        yield from body[:MAX_TEXT_CHARS].splitlines()
        if len(body) > MAX_TEXT_CHARS:
            yield f"… {len(body) - MAX_TEXT_CHARS:,} characters more; the JSON shows all"
        return
    pieces = json.JSONEncoder(ensure_ascii=False, indent=2).iterencode(_shortened(body))
    line, count = "", 0
    for piece in pieces:
        first, *more = piece.split("\n")
        line += first
        for text in more:
            yield line
            line, count = text, count + 1
        if count >= MAX_LINES:
            yield "… and more; the JSON shows all"
            return
    yield line


def _shortened(value: Any) -> Any:
    match value:
        case dict():
            return {name: _shortened(inner) for name, inner in value.items()}
        case list():
            return [_shortened(inner) for inner in value]
        case str() if len(value) > MAX_STRING_CHARS:
            return f"… {len(value):,} characters"
        case _:
            return value


def has_body(event: WholeEvent) -> bool:
    """Return whether an event's body is there: it may be removed or erased."""
    return event.body is not None


def has_person(event: WholeEvent) -> bool:
    """Return whether an event has anything left that names somebody."""
    gone = emptied(Event, Kept.IDENTITY).items()
    return any(getattr(event, name, value) != value for name, value in gone)


def _headers(event: WholeEvent) -> Any:
    """Return the headers as pairs; as one, when somebody has changed them."""
    try:
        return [[str(name), str(value)] for name, value in json.loads(event.headers)]
    except (ValueError, TypeError):
        return [["headers", str(event.headers)]]


def _columns(event: WholeEvent) -> dict[str, Any]:
    columns = dataclasses.asdict(event)
    del columns["body"]
    return columns


def _document(event: WholeEvent) -> dict[str, Any] | None:
    """Return the JSON object in the body; None when there is none, or it is nested too deeply."""
    document = bodies.parse(event.body or b"")
    return None if privacy.is_deep(document) else document


def attempts_of(
    database: Database, delivery_ids: Iterable[int], newest: int | None = None
) -> list[AttemptRow]:
    """Return the attempts of these deliveries, in the order in which each delivery had them; of
    each delivery only the `newest`, if that says how many."""
    query = (
        Attempt.select(*queries.columns(Attempt, AttemptRow))
        .where(Attempt.delivery.in_(list(delivery_ids)))
        .order_by(Attempt.delivery, Attempt.number)
    )
    if newest is not None:
        query = query.join(Delivery).where(Attempt.number > Delivery.attempt_count - newest)
    return queries.rows(database, query, AttemptRow)
