"""Where refused requests come from, and why they were refused."""

from dataclasses import dataclass

from peewee import Database, fn

from premblyd.model.tables import Rejection
from premblyd.record import fetching

MOST = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusals:
    """How many requests from an address were refused for a reason, and when last."""

    reason: str
    remote_ip: str
    count: int
    last_at_ms: int


def by_reason_and_address(database: Database, since_ms: int | None = None) -> list[Refusals]:
    """Return the reasons and addresses with most refused requests, of the 10,000 that are kept."""
    query = Rejection.select(
        Rejection.reason,
        Rejection.remote_ip,
        fn.COUNT(Rejection.id).alias("count"),
        fn.MAX(Rejection.at_ms).alias("last_at_ms"),
    )
    if since_ms is not None:
        query = query.where(Rejection.at_ms >= since_ms)
    query = (
        query.group_by(Rejection.reason, Rejection.remote_ip)
        .order_by(fn.COUNT(Rejection.id).desc(), Rejection.reason, Rejection.remote_ip)
        .limit(MOST)
    )
    return fetching.rows(database, query, Refusals)
