"""A downtime needs an operator where Prembly can be asked."""

from typing import Any

from premblyd.config.models import Config
from premblyd.config.secrets import Secret
from premblyd.features.asking.reconciliation import reconciled
from premblyd.features.asking.settings import PremblyApi
from premblyd.ground.times import HOUR_MS
from premblyd.store.engine import Database
from tests.support.jobs import action, settings
from tests.support.store import NOW_MS, Store
from tests.support.troubles import DAY_MS, found, kinds
from tests.support.troubles import record as record  # noqa: PLC0414 (a fixture)


def serving(code: str, **keys: Any) -> Config:
    """Return a configuration with an action for this code alone."""
    return settings(actions=(action("crm", code, **keys),))


def test_a_downtime_is_told_where_prembly_can_be_asked_until_it_is_reconciled(
    store: Store, record: Database
) -> None:
    from_ms, until_ms = NOW_MS - 5 * HOUR_MS, NOW_MS - HOUR_MS
    for start_ms in (from_ms, from_ms - 40 * DAY_MS):
        store.by_hand(
            "INSERT INTO downtime (from_ms, until_ms) VALUES (?, ?)", start_ms, start_ms + 1
        )
    asking = settings(prembly=PremblyApi.model_construct(api_key=Secret("text", "a-key")))
    (item,) = [item for item in found(record, settings=asking) if item.kind == "downtime"]
    assert item.command == "premblyd reconcile --since 2023-11-14T17:13:20+00:00 --store"
    assert "downtime" not in kinds(record, settings=serving("00"))
    assert "downtime" not in kinds(record)
    mended = {"since_ms": from_ms, "until_ms": until_ms, "now_ms": NOW_MS}
    store.call(lambda transaction: reconciled(transaction, **mended))
    assert "downtime" not in kinds(record, settings=asking)
