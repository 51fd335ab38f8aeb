"""Rejections: requests that were refused, kept as bounded evidence."""

import enum
from dataclasses import asdict, dataclass

from peewee import fn

from premblyd.queue.digests import Digests
from premblyd.store.engine import Statement, Transaction, insert, param, update
from premblyd.store.tables import Rejection
from premblyd.store.writer import Operation, Step

MAX_REJECTIONS = 10_000
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
    """A refused request, as evidence. `reason` is one of premblyd's own words."""

    at_ms: int
    endpoint: str
    remote_ip: str
    reason: str
    body_bytes: int | None
    body_sha256: bytes | None


def _reject(transaction: Transaction, rejections: list[NewRejection]) -> list[None]:
    digests = Digests.of(transaction)
    for row in map(asdict, rejections):
        sha256 = row.pop("body_sha256")
        row["body_digest"] = sha256 and digests.of_body(sha256)
        if row["reason"] in _NOISE_REASONS and transaction.number(_COUNT_NOISE) >= MAX_NOISE:
            transaction.write(_REPLACE_OLDEST_NOISE, **row)  # a new id would push out an old one
        else:
            transaction.write(_INSERT_REJECTION, **row)
    transaction.write(_TRIM_REJECTIONS, kept=MAX_REJECTIONS)
    return [None] * len(rejections)


_REJECTION_COLUMNS = "at_ms endpoint remote_ip reason body_bytes body_digest".split()
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
REJECT = Operation(Step.EVIDENCE, _reject)
