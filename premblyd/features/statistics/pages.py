"""On the overview: what came, and how each action fares."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from premblyd.features.console.handler import Asked, Panel
from premblyd.features.console.overview import PERIODS
from premblyd.features.statistics import shown
from premblyd.store.engine import Database


def of_period(database: Database, asked: Asked) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return the numbers of a period."""
    names = [action.name for action in asked.config.actions]
    found = shown.of_period(database, since_ms=asked.since_ms, now_ms=asked.now_ms, names=names)
    tables = [("code", found.by_response_code), ("outcome", found.by_outcome)]
    totals = {
        name: sum(getattr(each, name) for each in found.by_outcome)
        for name in ("events", "duplicates", "unmatched")
    }
    more = {"period": asked.period, "periods": list(PERIODS), "tables": tables, **totals}
    return asdict(found) | {"actions": found.actions}, more


PANELS = (Panel(page="/", template="received.html", find=of_period),)
