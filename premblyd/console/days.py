"""The last days, and whether all of each came: what `reconcile` has stored of it."""

from typing import Any

from premblyd import times
from premblyd.console.handler import Handler
from premblyd.record.certificates import stored
from premblyd.record.certificates.stored import StoredCertificate


class Days(Handler):
    """A row for each of the last days that were compared with Prembly's log."""

    section = "/days"

    async def get(self) -> None:
        self.filters()
        found = await self.read(stored.last_days)
        await self.show("days.html", {"days": list(map(_listed, found))})


def _listed(each: StoredCertificate) -> dict[str, Any]:
    return {
        "day": times.day(each.day_ms),
        "complete": each.complete,
        "why": [reason.words for reason in each.summary.reasons] if each.summary else [],
        "made_at_ms": each.made_at_ms,
    }
