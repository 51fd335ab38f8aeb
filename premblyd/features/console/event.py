"""The page of one event: its verdict, payload, deliveries and questions to Prembly."""

from premblyd.features.console import words
from premblyd.features.console.handler import Handler
from premblyd.record import events, standing
from premblyd.record.events import ShownEvent
from premblyd.record.operating import Operator
from premblyd.store.engine import Database

VERDICT = (
    "type", "response_code", "outcome", "doubt", "verification_status", "status", "detail",
    "reference", "user_ref", "session_id", "face_match", "face_confidence", "risk_level",
    "risk_score",
)  # fmt: skip
NEWEST_ATTEMPTS = 20  # of each delivery: thousands, with 64 KiB of output each, are no page


class Event(Handler):
    """An event, without personal data."""

    section = "/events"

    async def get(self, name: str) -> None:
        plain = self.services.config.plain_actions

        def read(database: Database) -> ShownEvent:
            whole = events.find_event(database, name)
            return events.masked(database, whole, NEWEST_ATTEMPTS, plain=plain)

        await show(self, await self.read(read), is_revealed=False)


class Reveal(Handler):
    """An event with personal data: it is on record first who sees it."""

    section = "/events"

    async def get(self, event_id: str) -> None:
        """Show the event as it is without: a page that is opened again records nothing."""
        self.redirect(f"/events/{event_id}", status=303)

    async def post(self, event_id: str) -> None:
        found = await self.read(lambda database: events.find_event(database, event_id))
        change = Operator(actor=self.actor).reveal(found.id, self.now_ms)
        recorded = await self.services.writer.call(change)
        shown = await self.read(
            lambda database: events.revealed(database, recorded, NEWEST_ATTEMPTS)
        )
        await show(self, shown, is_revealed=True)


async def show(handler: Handler, event: ShownEvent, *, is_revealed: bool) -> None:
    """Answer with an event."""
    if handler.wants_json:
        await handler.send_json(event.as_json())
        return
    now_ms = handler.now_ms
    paused = await handler.read(lambda database: standing.at_rest_in_words(database, now_ms))
    columns = dict(event.columns)
    headers = columns.pop("headers", [])
    verdict = {name: columns.pop(name) for name in VERDICT if name in columns}
    for told_above in ("removed_parts", "erasure_id"):
        columns.pop(told_above, None)
    await handler.send_page(
        "event.html",
        columns=columns,
        verdict=verdict,
        headers=headers,
        now_ms=now_ms,
        paused=paused,
        done=words.DONE.get(handler.get_query_argument("done", ""), ""),
        event=event,
        told=event.values,
        body_lines=events.body_lines,
        is_revealed=is_revealed,
    )
