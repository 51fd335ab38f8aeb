"""Requests that were refused: by reason and address, and each."""

from collections.abc import AsyncIterator
from typing import Any

from premblyd.console import export
from premblyd.console.forms import Form
from premblyd.console.handler import Handler
from premblyd.engines.connections import Database
from premblyd.record import reading, refused
from premblyd.record.choosing import RejectionFilter
from premblyd.record.leafing import LIMIT
from premblyd.record.reading import Page
from premblyd.record.refused import Refusals
from premblyd.record.rows import RejectionRow

NAMES = ("reason", "remote_ip", "since", "before")
CSV_ROWS = 2_000  # of a part: there are 10,000 at most, and each part sorts them all


class Rejections(Handler):
    """A list of refused requests, the newest first, below a summary."""

    section = "/rejections"

    async def get(self) -> None:
        form = Form(self.filters(*NAMES))
        chosen = RejectionFilter(
            reason=form.text("reason"),
            remote_ip=form.text("remote_ip"),
            since_ms=form.time("since", self.now_ms),
        )
        if self.request.path.endswith(".csv"):
            form.require()
            await self.send_csv("rejections.csv", self._csv(chosen, form))
            return
        rows: list[RejectionRow] = []
        summary: list[Refusals] = []
        if form.mistakes:
            self.set_status(400)
        else:
            rows, summary = await self.services.readers.run(
                lambda database: _find(database, chosen, form)
            )
        more = len(rows) > LIMIT
        rows = rows[:LIMIT]
        older = rows[-1].id if more else None
        view: dict[str, Any] = {
            "rejections": rows,
            "summary": summary,
            "older": older,
            "mistakes": form.mistakes,
        }
        if self.wants_json:
            await self.send_json(view)
            return
        ways = {
            "newest": form.query() if form.typed["before"] else None,
            "older": form.query(before=older) if older else None,
        }
        await self.send_page("rejections.html", form=form, ways=ways, **view)

    def _csv(self, chosen: RejectionFilter, form: Form) -> AsyncIterator[bytes]:
        def read(database: Database, before: int | None) -> tuple[list[RejectionRow], int | None]:
            rows = reading.rejections(database, chosen, Page(limit=CSV_ROWS, before_id=before))
            return rows, rows[-1].id if len(rows) == CSV_ROWS else None

        return export.parts(self.services.readers, RejectionRow, read, form.place().before)


def _find(
    database: Database, chosen: RejectionFilter, form: Form
) -> tuple[list[RejectionRow], list[Refusals]]:
    page = Page(limit=LIMIT + 1, before_id=form.place().before)
    return (
        reading.rejections(database, chosen, page),
        refused.by_reason_and_address(database, chosen.since_ms),
    )
