"""What is shown of an event: what Prembly was asked about it, and what it answered. And before many
hooks run, how long Prembly is asked."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from premblyd.config.keys import value_of
from premblyd.config.models import Config
from premblyd.features.asking.criteria import contradicted_ids
from premblyd.features.asking.listing import AwaitedRow, InquiryRow
from premblyd.features.asking.tables import Awaited, Inquiry
from premblyd.ground import times
from premblyd.ground.words import counted
from premblyd.prembly.events import STORED_BY
from premblyd.record import queries
from premblyd.record.events import Block, Show, Told, WholeEvent, has_person
from premblyd.store.engine import Database

ASK_ABOVE = 20  # questions


def of_event(database: Database, event: WholeEvent, show: Show, settings: Config | None) -> Told:
    """Return what Prembly was asked, and whether it contradicts the event."""
    query = contradicted_ids().where(Inquiry.event == event.id)
    is_contradicted = bool(queries.tuples(database, query))
    awaited = [show(row) for row in _awaited(database, event.id, event.reference)]
    inquiries = [InquiryRow(**show(row)) for row in _inquiries(database, event)]
    is_asked = settings is None or value_of("pending", settings) is not None
    blocks = [_unsettled(row, is_asked=is_asked) for row in awaited]
    if inquiries:
        lines = [_line(row, of_person=has_person(event)) for row in inquiries]
        blocks.append(Block(title="Questions to Prembly", lines=lines))
    hint = "Prembly contradicts it: see the questions to Prembly below."
    return Told(
        values={"contradicted": is_contradicted, "awaited": awaited, "inquiries": inquiries},
        lines=[hint] if is_contradicted else [],
        blocks=blocks,
    )


def _unsettled(row: Mapping[str, Any], *, is_asked: bool) -> Block:
    lines = []
    if row["due_at_ms"] is not None:
        at = f"asked next at {times.for_people(row['due_at_ms'])} UTC"
        lines.append(at if is_asked else "not asked: the configuration has no `pending`")
    if row["settled_by_id"] is not None:
        lines.append(f"settled by event {row['settled_by_id']}")
    if row["last_error"]:
        lines.append(row["last_error"])
    asked = f"{row['state']} after {counted(row['ask_count'], 'question')} to Prembly"
    return Block(title=f"Unsettled {row['id']}:", more=asked, lines=lines)


def _line(inquiry: InquiryRow, *, of_person: bool) -> str:
    of_none = "its session" if of_person else "a deleted name"
    asked_for = f"reference {inquiry.reference}" if inquiry.reference else of_none
    is_status = inquiry.error == f"HTTP {inquiry.http_status}"  # which is told anyway
    error = f": {inquiry.error}" if inquiry.error and not is_status else ""
    facts = [f"{inquiry.duration_ms} ms"]
    if inquiry.http_status:
        facts.append(f"HTTP {inquiry.http_status}, {inquiry.answer_bytes or 0} bytes")
    numbers = {"delivery": inquiry.delivery_id, "stored as event": inquiry.stored_event_id}
    facts += [f"{words} {number}" for words, number in numbers.items() if number]
    line = f"{inquiry.purpose}, {asked_for}: {inquiry.result}{error}  ({'; '.join(facts)})"
    return f"{times.for_people(inquiry.at_ms)} UTC  {line}"


def _inquiries(database: Database, event: WholeEvent) -> list[InquiryRow]:
    """Return the questions to Prembly about an event, and the one whose answer it is, the oldest
    first."""
    is_its = Inquiry.event == event.id
    if event.verified_by == STORED_BY:
        is_its = is_its | (Inquiry.stored_event == event.id)
    query = Inquiry.select(*queries.columns(Inquiry, InquiryRow)).where(is_its)
    return queries.rows(database, query.order_by(Inquiry.id), InquiryRow)


def _awaited(database: Database, event_id: int, reference: str | None) -> list[AwaitedRow]:
    """Return what was or is awaited of an event's verification, the oldest first."""
    is_its = Awaited.event == event_id
    if reference is not None:
        is_its |= Awaited.reference == reference
    query = Awaited.select(*queries.columns(Awaited, AwaitedRow)).where(is_its)
    return queries.rows(database, query.order_by(Awaited.id), AwaitedRow)


def of_replay(counts: Mapping[str, int], settings: Config) -> Iterator[str]:
    """Say how long Prembly is asked before the last of many hooks runs. `counts`: how many
    deliveries of each action will be queued."""
    confirming = [each.name for each in settings.actions if value_of("confirm", each)]
    count = sum(counts.get(name, 0) for name in confirming)
    prembly = value_of("prembly", settings)
    if prembly is not None and count > ASK_ABOVE:
        minutes = counted(math.ceil(count / prembly.rate / 60), "minute")
        yield f"{counted(count, 'question')} at {prembly.rate:g}/s: {minutes}."


OF_EVENT = (of_event,)
OF_REPLAY = (of_replay,)
