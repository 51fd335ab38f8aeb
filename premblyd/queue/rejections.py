"""Rejections: requests that were refused, kept as bounded evidence."""

import enum
from dataclasses import asdict, dataclass
from typing import Any

from peewee import ModelSelect, fn

from premblyd.ground.times import DAY_MS
from premblyd.queue.digests import Digests
from premblyd.store.engine import Statement, Transaction, insert, param, update
from premblyd.store.tables import Event, Rejection
from premblyd.store.writer import Operation, Step

MAX_REJECTIONS = 10_000
HINTED_AFTER_MS = 7 * DAY_MS  # without an accepted webhook
MOST_LOOKED_AT = 20_000  # events, for one of the endpoint's
MAX_NOISE = 1000  # of these at most: a scan for paths must not push out evidence of tried keys


class ConnectionFault(enum.StrEnum):
    """Reasons of rejections that anybody at all can cause, who knows neither a path nor a key: of
    these rejections fewer are logged and kept."""

    NO_SUCH_PATH = "no such path"
    METHOD_NOT_ALLOWED = "method not allowed"
    MALFORMED = "malformed request"
    HEAD_TOO_LARGE = "head too large"
    CUT_SHORT = "cut short"  # the client went away
    TOO_SLOW = "too slow"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRejection:
    """A refused request, as evidence. `reason` is one of premblyd's own words. `hint` tells in
    which form its signature would be right."""

    at_ms: int
    endpoint: str
    remote_ip: str
    reason: str
    body_bytes: int | None
    body_sha256: bytes | None
    hint: str | None = None


def accepted(endpoint: Any, since_ms: Any) -> "ModelSelect[Any]":
    """Return what has a row when an endpoint has accepted a webhook since then, as far as the
    latest events tell."""
    latest = (
        Event.select(Event.endpoint, Event.received_at_ms)
        .order_by(Event.id.desc())
        .limit(MOST_LOOKED_AT)
        .alias("latest")
    )
    its = (latest.c.endpoint == endpoint) & (latest.c.received_at_ms > since_ms)
    return Event.select(latest.c.endpoint).from_(latest).where(its).limit(1)


def _reject(transaction: Transaction, rejections: list[NewRejection]) -> list[str | None]:
    """Store rejections, and return the hints that were kept: none for an endpoint that has accepted
    something lately. Its form is right, and who has the key might talk an operator out of it."""
    digests, hints = Digests.of(transaction), []
    for row in map(asdict, rejections):
        sha256 = row.pop("body_sha256")
        row["body_digest"] = sha256 and digests.of_body(sha256)
        since_ms = row["at_ms"] - HINTED_AFTER_MS
        if row["hint"] and transaction.row(_ACCEPTED, endpoint=row["endpoint"], since_ms=since_ms):
            row["hint"] = None
        hints.append(row["hint"])
        if row["reason"] in _NOISE_REASONS and transaction.number(_COUNT_NOISE) >= MAX_NOISE:
            transaction.write(_REPLACE_OLDEST_NOISE, **row)  # a new id would push out an old one
        else:
            transaction.write(_INSERT_REJECTION, **row)
    transaction.write(_TRIM_REJECTIONS, kept=MAX_REJECTIONS)
    return hints


_REJECTION_COLUMNS = "at_ms endpoint remote_ip reason body_bytes body_digest hint".split()
_INSERT_REJECTION = insert(Rejection, *_REJECTION_COLUMNS)
_NOISE_REASONS = frozenset(ConnectionFault)
_IS_NOISE = Rejection.reason.in_(list(ConnectionFault))
_COUNT_NOISE = Statement(Rejection.select(fn.COUNT(Rejection.id)).where(_IS_NOISE))
_OLDEST_NOISE = (
    Rejection.select(Rejection.id).where(_IS_NOISE).order_by(Rejection.at_ms, Rejection.id).limit(1)
)
_REPLACE_OLDEST_NOISE = update(Rejection, *_REJECTION_COLUMNS, where=Rejection.id == _OLDEST_NOISE)
_TRIM_REJECTIONS = Statement(
    Rejection.delete().where(Rejection.id <= Rejection.select(fn.MAX(Rejection.id) - param("kept")))
)
_ACCEPTED = Statement(accepted(param("endpoint"), param("since_ms")))
REJECT = Operation(Step.EVIDENCE, _reject)
