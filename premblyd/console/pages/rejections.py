"""Requests that were refused: by reason and address, and each."""

from typing import Any

from premblyd.console import csvtext
from premblyd.console.forms import Form
from premblyd.console.handler import Handler
from premblyd.record import reading, refused
from premblyd.record.choosing import RejectionFilter
from premblyd.record.leafing import LIMIT
from premblyd.record.reading import Page
from premblyd.record.refused import Refusals
from premblyd.record.rows import RejectionRow
from premblyd.store.connections import Database

NAMES = ("reason", "remote_ip", "since", "before")
CSV_ROWS = 1000
COLUMNS = ("id", "at_ms", "endpoint", "remote_ip", "reason", "body_bytes", "body_sha256")


class Rejections(Handler):
    """A list of refused requests, the newest first, below a summary."""

    section = "/rejections"

    async def get(self) -> None:
        form = Form({name: self.get_query_argument(name, "") for name in NAMES})
        chosen = RejectionFilter(
            reason=form.text("reason"),
            remote_ip=form.text("remote_ip"),
            since_ms=form.time("since", self.now_ms),
        )
        is_csv = self.request.path.endswith(".csv")
        limit = CSV_ROWS if is_csv else LIMIT
        rows, summary = await self.services.readers.run(
            lambda database: _find(database, chosen, form, limit)
        )
        more = len(rows) > limit
        rows = rows[:limit]
        if is_csv:
            self.set_header("Content-Type", "text/csv; charset=UTF-8")
            self.set_header("Content-Disposition", 'attachment; filename="rejections.csv"')
            await self.send(
                lambda: csvtext.table(COLUMNS, [[getattr(r, n) for n in COLUMNS] for r in rows])
            )
            return
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


def _find(
    database: Database, chosen: RejectionFilter, form: Form, limit: int
) -> tuple[list[RejectionRow], list[Refusals]]:
    page = Page(limit=limit + 1, before_id=form.place().before)
    return (
        reading.rejections(database, chosen, page),
        refused.by_reason_and_address(database, chosen.since_ms),
    )
