"""The first page: what needs attention, what came, and how the actions fare."""

from collections import Counter
from typing import Any
from urllib.parse import urlencode

from premblyd import times
from premblyd.console import charts
from premblyd.console.handler import Handler
from premblyd.engines.connections import Database
from premblyd.errors import PremblydError
from premblyd.record import attention, statistics
from premblyd.record.trouble import Item, Target

HOUR_MS = 3_600_000
PERIODS = {"24h": 24, "7d": 7 * 24, "30d": 30 * 24}  # hours
PAGES = {
    "events": "/events",
    "rejections": "/rejections",
    "actions": "/actions",
    "deliveries": "/deliveries",
}


class Overview(Handler):
    """The numbers of a period, below what needs attention now."""

    section = "/"

    async def get(self) -> None:
        period = self.filters("since")["since"] or "24h"
        if period not in PERIODS:
            raise PremblydError(f"`since` should be one of {', '.join(PERIODS)}.")
        now_ms = self.now_ms
        view = await self.services.readers.run(
            lambda database: self._read(database, PERIODS[period], now_ms)
        )
        if self.wants_json:
            attention_json = [item.as_json() for item in view.pop("items")]
            await self.send_json({"attention": attention_json, **view})
            return
        span = {
            "since_ms": view["since_ms"],
            "until_ms": now_ms,
            "each_ms": view["each_ms"],
        }
        by_code = charts.stacked(view["by_response_code"], **span)
        by_outcome = charts.stacked(view["by_outcome"], **span)
        refused = sum(each.count for each in view["rejections"])
        await self.send_page(
            "overview.html",
            period=period,
            periods=list(PERIODS),
            charts=[("by response code", by_code), ("by outcome", by_outcome)],
            events=by_outcome.total,
            duplicates=sum(each.duplicates for each in view["by_outcome"]),
            unmatched=sum(each.unmatched for each in view["by_outcome"]),
            refused=refused,
            reasons=_by_reason(view["rejections"]),
            link=link,
            now_ms=now_ms,
            **view,
        )

    def _read(self, database: Database, hours: int, now_ms: int) -> dict[str, Any]:
        since_ms = now_ms - hours * HOUR_MS
        each_ms = statistics.span_ms(since_ms, now_ms)
        config = self.services.config
        situation = attention.situation(
            database,
            now_ms,
            settings=config,
            path=self.services.path,
            store_error=self.services.writer.recent_error(),
        )
        return {
            "since_ms": since_ms,
            "until_ms": now_ms,
            "each_ms": each_ms,
            "items": attention.items(situation),
            "by_response_code": statistics.events(
                database, "response_code", since_ms=since_ms, each_ms=each_ms
            ),
            "by_outcome": statistics.events(
                database, "outcome", since_ms=since_ms, each_ms=each_ms
            ),
            "rejections": statistics.rejections(database, since_ms=since_ms, each_ms=each_ms),
            "figures": statistics.actions(
                database,
                since_ms=since_ms,
                now_ms=now_ms,
                names=[action.name for action in config.actions],
            ),
        }


def link(item: Item) -> str | None:
    """Return where to look at what an item is about; None for what no page shows."""
    target: Target = item.target
    if target.page not in PAGES:
        return None
    path = PAGES[target.page]
    filters = {name: getattr(target, name) for name in ("code", "action", "reason")}
    if target.page == "deliveries" and target.state == "dead":
        path = "/dead"
    elif target.state is not None:
        filters["state"] = target.state
    if target.flag is not None:
        filters[target.flag] = "yes"
    if target.since_ms is not None:
        filters["since"] = times.iso(target.since_ms)
    query = urlencode({name: value for name, value in filters.items() if value is not None})
    return f"{path}?{query}" if query else path


def _by_reason(rejections: list[Any]) -> list[tuple[str, int]]:
    counts: Counter[str] = Counter()
    for each in rejections:
        counts[each.reason] += each.count
    return counts.most_common()
