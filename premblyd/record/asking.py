"""What was asked of Prembly about an event, and what is awaited of it."""

from peewee import SQL, Database, fn

from premblyd.model.tables import Awaited, Inquiry
from premblyd.prembly import events as events_of_prembly
from premblyd.record import fetching
from premblyd.record.rows import AwaitedRow, InquiryRow, WholeEvent


def inquiries(database: Database, event: WholeEvent) -> list[InquiryRow]:
    """Return the questions to Prembly about an event, and the one whose answer it is, the oldest
    first."""
    is_its = Inquiry.event == event.id
    if event.verified_by == events_of_prembly.STORED_BY:
        is_its = is_its | (Inquiry.stored_event == event.id)
    query = Inquiry.select(*fetching.columns(Inquiry, InquiryRow)).where(is_its)
    return fetching.rows(database, query.order_by(Inquiry.id), InquiryRow)


def awaited_of(database: Database, event_id: int, reference: str | None) -> list[AwaitedRow]:
    """Return what was or is awaited of an event's verification, the oldest first."""
    is_its = Awaited.event == event_id
    if reference is not None:
        is_its |= Awaited.reference == reference
    query = Awaited.select(*fetching.columns(Awaited, AwaitedRow)).where(is_its)
    return fetching.rows(database, query.order_by(Awaited.id), AwaitedRow)


def given_up(database: Database, *, since_ms: int) -> int:
    """Return how many verifications were given up since a time, and are not settled by now."""
    query = Awaited.select(fn.COUNT(Awaited.id)).where(
        Awaited.state == SQL("'given_up'"),  # as the index has it, which is of few rows
        Awaited.finished_at_ms >= since_ms,
    )
    [(count,)] = fetching.tuples(database, query)
    return int(count)
