"""The pages of one event, and of deliveries and dead ones, with replay and cancel."""

import dataclasses
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

from premblyd.features.console import words
from premblyd.features.console.handler import Handler, require_known
from premblyd.features.console.lists import Form, ListPage, is_plain
from premblyd.ground.errors import PremblydError
from premblyd.ground.privacy import MASK
from premblyd.ground.words import counted
from premblyd.record import events, replays, standing
from premblyd.record.events import ShownEvent
from premblyd.record.filters import DeliveryFilter
from premblyd.record.listing import narrowed
from premblyd.record.lists import DeliveryRow
from premblyd.record.operating import CANCELLED, REPLAYED, Operator
from premblyd.record.replays import Plan, Request
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
    paused = await handler.read(lambda database: standing.at_rest_in_words(database, now_ms))
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


MAX_CHOSEN = 1000
_OWN_FIELDS = {"_xsrf", "all", "sure"}  # of the forms about all that a filter chooses


class Deliveries(ListPage):
    """A list of deliveries, the newest first."""

    section = "/dead"
    path = "/deliveries"
    kind, row = DeliveryFilter, DeliveryRow
    name, template = "deliveries", "deliveries.html"
    nothing = MappingProxyType({"dead": {}})

    def beside(self, database: Database, chosen: DeliveryFilter) -> Mapping[str, Any]:
        return {"dead": standing.dead_of(database)}


class Dead(Deliveries):
    """Dead deliveries: those that used up all their attempts."""

    path = "/dead"
    fixed = MappingProxyType({"state": State.DEAD})
    nothing = MappingProxyType({"dead": {}, "errors": []})

    def beside(self, database: Database, chosen: DeliveryFilter) -> Mapping[str, Any]:
        errors = standing.errors_of_dead(database, chosen.action)
        return {**super().beside(database, chosen), "errors": errors}


class ReplayMany(Handler):
    """Replays chosen dead deliveries, or after a question all that the page's filters choose."""

    section = "/dead"
    does = REPLAYED

    async def post(self) -> None:
        is_all = bool(self.get_body_argument("all", ""))
        chosen, form = self._all() if is_all else (self._some(), None)
        total = await self.read(lambda database: replays.count_deliveries(database, chosen))
        about = how_many(total)
        is_sure = self.get_body_argument("sure", "") == "yes" or self.wants_json
        if form is not None and not is_sure:
            left = narrowed(chosen, contradicted=True)
            contradicted = 0
            if left is not None:
                contradicted = await self.read(
                    lambda database: replays.count_deliveries(database, left)
                )
            asked = f"{about}{_that(form, is_seen=True)}"
            view = {"about": asked, "total": total, "contradicted": contradicted}
            await self.send_page("sure.html", form=form, does=self.does, **view)
            return
        who = {"actor": self.actor, "does": self.does}
        about += _that(form, is_seen=False)
        bulk = self.services.bulks.start(chosen, total, self.services.config, about=about, **who)
        await self.go_on(f"/replays/{bulk.id}", bulk.as_json())

    def _all(self) -> tuple[DeliveryFilter, Form]:
        offered = Dead.offered()
        names = [each.name for each in offered]
        require_known(self.request.body_arguments.keys() - _OWN_FIELDS, names)
        form = Form({name: self.get_body_argument(name, "") for name in names})
        chosen = form.chosen(DeliveryFilter, offered, self.now_ms, Dead.fixed)
        form.require()
        return chosen, form

    def _some(self) -> DeliveryFilter:
        numbers = _numbers(self.get_body_arguments("delivery"))
        if not numbers:
            raise PremblydError("Choose at least one delivery first.")
        return DeliveryFilter(state=State.DEAD, ids=tuple(numbers))


class CancelMany(ReplayMany):
    """Cancels chosen dead deliveries, or after a question all that the page's filters choose."""

    does = CANCELLED


def how_many(total: int) -> str:
    """Return how many it is of. No more than COUNTED are counted, and it is done to all."""
    more = " or more" if total >= replays.COUNTED else ""
    return counted(total, "dead delivery", "dead deliveries") + more


def _that(form: Form | None, *, is_seen: bool) -> str:
    """Return the filters in words. `is_seen`: only who typed them sees that; in the record, which
    all read, words that may be a person's are masked."""
    if form is None:
        return ""
    asked = [
        f"{each.title.lower()} {typed if is_seen or is_plain(each, typed) else MASK}"
        for each in Dead.offered()
        if (typed := form.typed.get(each.name))
    ]
    return f" ({', '.join(asked)})" if asked else ""


class Progress(Handler):
    """How far a replay or a cancel of many is."""

    section = "/dead"

    async def get(self, bulk_id: str) -> None:
        await self.show("progress.html", {"bulk": self.services.bulks.find(int(bulk_id)).as_json()})


class Stop(Handler):
    """Stops a replay or a cancel of many: what is done stays so."""

    section = "/dead"

    async def post(self, bulk_id: str) -> None:
        bulk = self.services.bulks.find(int(bulk_id))
        bulk.is_stopped = True
        await self.go_on(f"/replays/{bulk.id}", bulk.as_json())


class Delivery(Handler):
    """A delivery is shown on its event's page."""

    async def get(self, delivery_id: str) -> None:
        found = await self.read(lambda database: replays.find_delivery(database, int(delivery_id)))
        self.redirect(f"/events/{found.event_id}#d-{found.id}", status=303)


class Replay(Handler):
    """Queues one delivery again: a finished one with all its attempts, a pending one for now."""

    section = "/dead"

    async def post(self, delivery_id: str) -> None:
        config, now_ms = self.services.config, self.now_ms
        number = int(delivery_id)
        vetoes = replays.vetoes()
        meant = {each.name for each in vetoes if self.get_body_argument(each.name, "") == "yes"}
        found, plan = await self.read(
            lambda database: (
                replays.find_delivery(database, number),
                _plan_one(database, number, config, now_ms, meant),
            )
        )
        if plan.left_out:
            raise PremblydError(next(each.refusal for each in vetoes if each.name in plan.left_out))
        queued = 0
        for change in replays.changes(plan, Operator(actor=self.actor), config, now_ms):
            queued += await self.services.writer.call(change, alone=True)
        self.services.wake()
        if plan.without_action:
            raise PremblydError(f"The configuration has no action {found.action} any more.")
        done = "skipped_again" if plan.skipped_again else "replayed"
        await _done(self, found, done if queued else "not_replayed", queued)


class Cancel(Handler):
    """Takes a pending delivery out of the queue."""

    section = "/dead"

    async def post(self, delivery_id: str) -> None:
        number = int(delivery_id)
        found = await self.read(lambda database: replays.find_delivery(database, number))
        change = Operator(actor=self.actor).cancel(number, self.now_ms)
        cancelled = await self.services.writer.call(change, alone=True)
        self.services.wake()  # with `order`, what has waited for it is due now
        await _done(self, found, "cancelled" if cancelled else "not_cancelled", int(cancelled))


async def _done(handler: Handler, found: Any, done: str, count: int) -> None:
    """Answer that something was done, or why not: on the event's page, or as JSON."""
    view = {"done": count, "message": words.DONE[done]}
    await handler.go_on(f"/events/{found.event_id}?done={done}#deliveries", view)


def _plan_one(
    database: Database, delivery_id: int, config: Any, now_ms: int, meant: Collection[str]
) -> Plan:
    one = DeliveryFilter(delivery_id=delivery_id)
    again = Request(chosen=one, allowed=meant)
    plan = replays.plan(database, config, again, now_ms)
    if plan.unfinished:
        now = Request(chosen=dataclasses.replace(one, state=State.PENDING))
        return replays.plan(database, config, now, now_ms)
    return plan


def _numbers(texts: list[str]) -> list[int]:
    numbers = {int(text) for text in texts if text.isascii() and text.isdigit() and len(text) < 19}
    return sorted(numbers)[:MAX_CHOSEN]
