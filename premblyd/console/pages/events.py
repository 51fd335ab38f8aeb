"""The list of events."""

import dataclasses
from collections.abc import AsyncIterator

from premblyd.console import export, words
from premblyd.console.forms import Form, ways
from premblyd.console.handler import Handler
from premblyd.engines.connections import Database
from premblyd.record import browsing, leafing
from premblyd.record.choosing import EventFilter
from premblyd.record.leafing import Part, Place
from premblyd.record.rows import EventRow

FIELDS = (
    "code", "outcome", "type", "kind", "reference", "user_ref", "since", "until", "text",
    "endpoint", "contradicted", "doubted",
)  # fmt: skip


class Events(Handler):
    """Events, the newest first, chosen by a form."""

    section = "/events"

    async def get(self) -> None:
        form = Form(self.filters(*FIELDS, "before", "after"))
        search = _search(form, self.now_ms)
        if self.is_csv:
            form.require()
            await self.send_csv("events.csv", self._csv(search, form))
            return
        if form.mistakes:
            self.set_status(400)
            part: Part[EventRow] = Part(rows=[], newer=None, older=None)
        else:
            part = await self.services.readers.run(
                lambda database: _find(database, search, form.place())
            )
        view = {
            "events": part.rows,
            "newer": part.newer,
            "older": part.older,
            "is_cut": part.is_cut,
            "mistakes": form.mistakes,
        }
        if self.wants_json:
            await self.send_json(view)
            return
        await self.send_page("events.html", form=form, ways=ways(form, part), fields=FIELDS, **view)

    @property
    def is_csv(self) -> bool:
        return self.request.path.endswith(".csv")

    def _csv(self, search: EventFilter, form: Form) -> AsyncIterator[bytes]:
        def read(database: Database, before: int | None) -> tuple[list[EventRow], int | None]:
            part = _find(database, search, Place(before=before), export.ROWS)
            return part.rows, part.older

        return export.parts(self.services.readers, EventRow, read, form.place().before)


def _find(
    database: Database, search: EventFilter, place: Place, limit: int = leafing.LIMIT
) -> Part[EventRow]:
    part = browsing.events(database, search, place, limit)
    return dataclasses.replace(part, rows=[EventRow(**row.masked()) for row in part.rows])


def _search(form: Form, now_ms: int) -> EventFilter:
    return EventFilter(
        code=form.text("code"),
        outcome=form.word("outcome", words.OUTCOMES),
        type=form.text("type"),
        kind=form.word("kind", words.KINDS),
        endpoint=form.text("endpoint"),
        reference=form.text("reference"),
        user_ref=form.text("user_ref"),
        since_ms=form.time("since", now_ms),
        until_ms=form.time("until", now_ms),
        text=form.text("text"),
        contradicted=form.word("contradicted", words.YES) is not None,
        is_doubted=form.word("doubted", words.YES) is not None,
    )
