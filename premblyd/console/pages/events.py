"""The list of events."""

import dataclasses
from typing import Any

from premblyd import times
from premblyd.console import csvtext, words
from premblyd.console.forms import Form, ways
from premblyd.console.handler import Handler
from premblyd.privacy import documents
from premblyd.record import browsing, leafing
from premblyd.record.choosing import EventFilter
from premblyd.record.leafing import Part
from premblyd.record.rows import EventRow
from premblyd.store.connections import Database

FIELDS = (
    "code", "outcome", "type", "kind", "reference", "user_ref", "since", "until", "text",
    "endpoint", "contradicted", "doubted",
)  # fmt: skip
CSV_ROWS = 500


class Events(Handler):
    """Events, the newest first, chosen by a form."""

    section = "/events"

    async def get(self) -> None:
        form = Form(
            {name: self.get_query_argument(name, "") for name in (*FIELDS, "before", "after")}
        )
        search = _search(form, self.now_ms)
        if form.mistakes:
            self.set_status(400)
            part: Part[EventRow] = Part(rows=[], newer=None, older=None)
        else:
            limit = CSV_ROWS if self.is_csv else leafing.LIMIT
            part = await self.services.readers.run(
                lambda database: _find(database, search, form, limit)
            )
        if self.is_csv:
            await self._send_csv(part.rows)
            return
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

    async def _send_csv(self, rows: list[EventRow]) -> None:
        self.set_header("Content-Type", "text/csv; charset=UTF-8")
        self.set_header("Content-Disposition", 'attachment; filename="events.csv"')
        names = [field.name for field in dataclasses.fields(EventRow)]
        titles = [words.label(name) if name.endswith("_at_ms") else name for name in names]
        await self.send(
            lambda: csvtext.table(titles, ([_cell(row, name) for name in names] for row in rows))
        )


def _find(database: Database, search: EventFilter, form: Form, limit: int) -> Part[EventRow]:
    part = browsing.events(database, search, form.place(), limit)
    return dataclasses.replace(part, rows=[masked(row) for row in part.rows])


def masked(row: EventRow) -> EventRow:
    """Return a row of the list as it is shown: what a sender wrote only in a harmless shape."""
    shown: dict[str, Any] = {
        field.name: documents.mask_column(field.name, getattr(row, field.name))
        for field in dataclasses.fields(row)
    }
    return EventRow(**shown)


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


def _cell(row: EventRow, name: str) -> Any:
    value = getattr(row, name)
    return times.for_people(value) if name.endswith("_at_ms") else value
