"""The page of one event, and replay and cancel."""

from premblyd.features.console import words
from premblyd.features.console.handler import Handler
from premblyd.features.reading.standing import at_rest_in_words
from premblyd.ground.errors import PremblydError
from premblyd.ground.words import counted
from premblyd.record import events, replays
from premblyd.record.events import ShownEvent
from premblyd.record.filters import DeliveryFilter
from premblyd.record.lists import LIMIT
from premblyd.record.operating import CANCELLED, ONLY_SOME, REPLAYED, Operator
from premblyd.record.replays import Request
from premblyd.store.engine import Database
from premblyd.store.states import State

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
    paused = await handler.read(lambda database: at_rest_in_words(database, now_ms))
    columns = dict(event.columns)
    headers = columns.pop("headers", [])
    verdict = {name: columns.pop(name) for name in VERDICT if name in columns}
    columns.pop("removed_parts", None)  # told above
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


class Delivery(Handler):
    """A delivery is shown on its event's page."""

    async def get(self, delivery_id: str) -> None:
        found = await self.read(lambda database: replays.find_delivery(database, int(delivery_id)))
        self.redirect(f"/events/{found.event_id}#d-{found.id}", status=303)


async def _done(handler: Handler, delivery_id: int, done: str) -> None:
    """Answer that something was done to a delivery: on its event's page, or as JSON."""
    found = await handler.read(lambda database: replays.find_delivery(database, delivery_id))
    view = {"done": 1, "message": words.DONE[done]}
    await handler.go_on(f"/events/{found.event_id}?done={done}#deliveries", view)


class Replay(Handler):
    """Queues one delivery again: a finished one with all its attempts, a pending one for now."""

    section = "/dead"

    async def post(self, delivery_id: str) -> None:
        names = {veto.name for veto in replays.vetoes()}
        meant = {name for name in names if self.get_body_argument(name, "") == "yes"}
        one = DeliveryFilter(delivery_id=int(delivery_id))
        await _replay(self, Request(chosen=one, allowed=meant))
        await _done(self, int(delivery_id), "replayed")


async def _replay(handler: Handler, request: Request) -> int:
    """Queue what is asked for, and return how many deliveries that is. Raise PremblydError, with
    the reasons, where it is none."""
    services, now_ms = handler.services, handler.now_ms
    config, call = services.config, services.writer.call
    plan = await handler.read(lambda database: replays.plan(database, config, request))
    operator = Operator(actor=handler.actor)
    if len(plan) > 1:
        about = counted(len(plan), "dead delivery", "dead deliveries")
        operator = await call(operator.many(about, now_ms, REPLAYED), alone=True)
    changes = replays.changes(plan, operator, config, now_ms)
    queued = sum([await call(change, alone=True) for change in changes])
    services.wake()
    if not queued:
        reasons = "; ".join(plan.left) or "it runs, or waits for another"
        raise PremblydError(f"Nothing was queued: {reasons}.")
    return queued


class Cancel(Handler):
    """Takes a pending delivery out of the queue, or dismisses a dead one."""

    section = "/dead"

    async def post(self, delivery_id: str) -> None:
        change = Operator(actor=self.actor).cancel(int(delivery_id), self.now_ms)
        if not await self.services.writer.call(change, alone=True):
            raise PremblydError(f"Nothing was cancelled: {ONLY_SOME}.")
        self.services.wake()  # with `order`, what has waited for it is due now
        await _done(self, int(delivery_id), "cancelled")


class ReplayMany(Handler):
    """Replays the dead deliveries that were chosen in the list."""

    section = "/dead"

    async def post(self) -> None:
        queued = await _replay(self, Request(chosen=_chosen(self)))
        await self.go_on("/dead", {"done": queued})


class CancelMany(Handler):
    """Cancels the dead deliveries that were chosen in the list."""

    section = "/dead"

    async def post(self) -> None:
        ids, now_ms, call = _chosen(self).ids or (), self.now_ms, self.services.writer.call
        about = counted(len(ids), "dead delivery", "dead deliveries")
        many = Operator(actor=self.actor).many(about, now_ms, CANCELLED)
        operator = await call(many, alone=True)
        changes = operator.cancel_dead(ids, now_ms)
        cancelled = sum([await call(change, alone=True) for change in changes])
        self.services.wake()
        await self.go_on("/dead", {"done": cancelled})


def _chosen(handler: Handler) -> DeliveryFilter:
    """Return the dead deliveries whose boxes are ticked. Raise PremblydError if none is."""
    texts = handler.get_body_arguments("delivery")[:LIMIT]
    ids = sorted({int(text) for text in texts if text.isdecimal() and len(text) < 19})
    if not ids:
        raise PremblydError("Choose at least one delivery first.")
    return DeliveryFilter(state=State.DEAD, ids=tuple(ids))
