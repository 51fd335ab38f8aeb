"""Requests that were refused: by reason and address, and each."""

from typing import Any

from premblyd.console.pages.lists import ListPage
from premblyd.engines.connections import Database
from premblyd.record import statistics
from premblyd.record.filters import RejectionFilter
from premblyd.record.queries import RejectionRow


class Rejections(ListPage):
    """A list of refused requests, the newest first, below a summary."""

    section = path = "/rejections"
    kind, row = RejectionFilter, RejectionRow
    name, template = "rejections", "rejections.html"
    places = ("before",)
    csv_rows = 2_000  # there are 10,000 at most, and each part sorts them all

    def beside(self, database: Database | None, chosen: RejectionFilter) -> dict[str, Any]:
        if database is None:
            return {"summary": []}
        return {"summary": statistics.refusals(database, chosen.since_ms)}
