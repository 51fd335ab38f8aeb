"""The certificates that the record keeps: each that was made, of a day the last one counts."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from peewee import fn

from premblyd import jsontext
from premblyd.engines.engine import Database, Statement, Transaction, insert, param
from premblyd.keep.operators import write_down
from premblyd.model.tables import Certificate as Row
from premblyd.record import queries
from premblyd.record.certificates.summary import Summary

SHOWN = 30  # days


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCertificate:
    """A certificate as it is kept. `number`: its row; `summary`: None where somebody has put
    something else in its place."""

    number: int
    day_ms: int
    made_at_ms: int
    complete: bool
    made_before: int  # how many of the same day
    summary: Summary | None


def store(database: Database, summary: Summary, actor: str) -> StoredCertificate:
    """Keep what a certificate says, on record as made by `actor`. Raise StoreUnavailableError when
    it can't be kept."""

    def work(transaction: Transaction) -> StoredCertificate:
        ((made_before,),) = transaction.rows(_COUNT, day_ms=summary.since_ms)
        row = {
            "day_ms": summary.since_ms,
            "made_at_ms": summary.made_at_ms,
            "is_complete": summary.complete,
            "said": jsontext.dumps(summary.as_json()).decode(),
        }
        number = transaction.insert(_INSERT, **row)
        note = f"certificate {number} of {summary.day}"
        write_down(transaction, actor, "certify", summary.made_at_ms, note)
        return _stored((number, *row.values()), made_before)

    return database.transact(work)


def last_days(database: Database, days: int = SHOWN) -> list[StoredCertificate]:
    """Return the last certificate of each of the last days that have one, the newest day first."""
    last = (
        Row.select(fn.MAX(Row.id), fn.COUNT(Row.id))
        .group_by(Row.day_ms)
        .order_by(Row.day_ms.desc())
        .limit(days)
    )
    counts = dict(queries.tuples(database, last))
    return [_stored(row, counts[row[0]] - 1) for row in _rows(database, counts)]


def of_day(database: Database, day_ms: int) -> list[StoredCertificate]:
    """Return the certificates of a day, the last one first: at most SHOWN of them."""
    ids = Row.select(Row.id).where(Row.day_ms == day_ms)
    count = queries.count(database, ids, 1_000_000)
    newest = [id_ for (id_,) in queries.tuples(database, ids.order_by(Row.id.desc()).limit(SHOWN))]
    found = _rows(database, newest)
    return [_stored(row, count - 1 - place) for place, row in enumerate(found)]


def complete_days(database: Database, days_ms: Collection[int]) -> set[int]:
    """Return those of these days of which the last certificate is a complete one."""
    last = Row.select(fn.MAX(Row.id)).where(Row.day_ms.in_(list(days_ms))).group_by(Row.day_ms)
    query = Row.select(Row.day_ms).where(Row.id.in_(last), Row.is_complete == True)  # noqa: E712
    return {day_ms for (day_ms,) in queries.tuples(database, query)}


def _rows(database: Database, ids: Collection[int]) -> list[tuple[Any, ...]]:
    query = Row.select(Row.id, Row.day_ms, Row.made_at_ms, Row.is_complete, Row.said)
    return queries.tuples(
        database, query.where(Row.id.in_(list(ids))).order_by(Row.day_ms.desc(), Row.id.desc())
    )


def _stored(row: tuple[Any, ...], made_before: int) -> StoredCertificate:
    number, day_ms, made_at_ms, is_complete, said = row
    return StoredCertificate(
        number=number,
        day_ms=day_ms,
        made_at_ms=made_at_ms,
        complete=bool(is_complete),
        made_before=made_before,
        summary=Summary.read(said),
    )


_COUNT = Statement(Row.select(fn.COUNT(Row.id)).where(Row.day_ms == param("day_ms")))
_INSERT = insert(Row, "day_ms", "made_at_ms", "is_complete", "said")
