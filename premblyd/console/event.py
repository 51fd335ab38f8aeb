"""One event: its verdict, its payload, and what became of it."""

from collections.abc import Collection, Mapping
from typing import Any

from premblyd.console import tree, words
from premblyd.console.handler import Handler
from premblyd.engines.engine import Database
from premblyd.prembly import bodies
from premblyd.record import events
from premblyd.record.events import ShownEvent
from premblyd.record.operating import Operator, RecordedReveal

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
        plain = [each.name for each in self.services.config.actions if each.output == "plain"]
        view = await self.read(lambda database: _masked(database, name, plain))
        await show(self, view)


class Reveal(Handler):
    """An event with personal data: it is on record first who sees it."""

    section = "/events"

    async def get(self, event_id: str) -> None:
        """Show the event as it is without: a page that is opened again records nothing."""
        self.redirect(f"/events/{event_id}", status=303)

    async def post(self, event_id: str) -> None:
        found = await self.read(lambda database: events.find_event_id(database, event_id))
        change = Operator(actor=self.actor).reveal(found, self.now_ms)
        recorded = await self.services.writer.call(change)
        view = await self.read(lambda database: _revealed(database, recorded))
        await show(self, view)


async def show(handler: Handler, view: Mapping[str, Any]) -> None:
    """Answer with an event."""
    event: ShownEvent = view["event"]
    if handler.wants_json:
        await handler.send_json(event.as_json())
        return
    columns = dict(event.columns)
    headers = columns.pop("headers", [])
    verdict = {name: columns.pop(name) for name in VERDICT if name in columns}
    await handler.send_page(
        "event.html",
        columns=columns,
        verdict=verdict,
        headers=headers,
        now_ms=handler.now_ms,
        done=words.DONE.get(handler.get_query_argument("done", ""), ""),
        **view,
    )


def _masked(database: Database, name: str, plain: Collection[str]) -> dict[str, Any]:
    whole = events.find_event(database, name)
    event = events.masked(database, whole, NEWEST_ATTEMPTS, plain=plain)
    return _view(event, bodies.parse(whole.body), is_revealed=False)


def _revealed(database: Database, recorded: RecordedReveal) -> dict[str, Any]:
    event = events.revealed(database, recorded, NEWEST_ATTEMPTS)
    return _view(event, None, is_revealed=True)


def _view(event: ShownEvent, original: Any, *, is_revealed: bool) -> dict[str, Any]:
    shown = tree.of(event.body, original)
    return {
        "event": event,
        "tree": shown,
        "tree_html": tree.html(shown),
        "is_revealed": is_revealed,
    }
