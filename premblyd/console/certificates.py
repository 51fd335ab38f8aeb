"""Certificates of completeness: the last one of each of the last days, and all of a day."""

from dataclasses import asdict
from typing import Any

from premblyd import times
from premblyd.console.handler import Handler
from premblyd.errors import NotFoundError
from premblyd.record.certificates import page, stored
from premblyd.record.certificates.stored import StoredCertificate
from premblyd.record.certificates.summary import COLUMNS, facts


class Certificates(Handler):
    """The last certificate of each of the last days."""

    section = "/certificates"

    async def get(self) -> None:
        self.filters()
        found = await self.read(stored.last_days)
        await self.show(
            "certificates.html", {"certificates": list(map(_listed, found))}, shown=stored.SHOWN
        )


class OfDay(Handler):
    """What the last certificate of a day says, and when others were made."""

    section = "/certificates"

    async def get(self, day: str) -> None:
        self.filters()
        found = await self.read(lambda database: stored.of_day(database, _day_ms(day)))
        if not found:
            raise NotFoundError(f"There is no certificate of {day}: premblyd certify --day {day}")
        last = found[0]
        said = last.summary and last.summary.as_json()
        view = {"certificates": list(map(_listed, found)), "said": said}
        more = {"day": day, "last": last, "columns": COLUMNS}
        await self.show("certificate.html", view, page=page, facts=facts, **more)


def _day_ms(day: str) -> int:
    """Return when a day begins. Raise NotFoundError for what is none."""
    try:
        return times.from_iso(day)
    except (ValueError, OverflowError):
        raise NotFoundError(f"There is no day {day}.") from None


def _listed(each: StoredCertificate) -> dict[str, Any]:
    """Return a certificate as a list has it."""
    summary = each.summary
    return {
        "number": each.number,
        "day": times.day(each.day_ms),
        "made_at_ms": each.made_at_ms,
        "complete": each.complete,
        "made_before": each.made_before,
        "total": summary and asdict(summary.total),
        "reasons": [reason.reason for reason in summary.reasons] if summary else [],
    }
