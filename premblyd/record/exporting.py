"""A table of the record, whole, for auditors: CSV or a line of JSON for each row, as many as there
are. Begin with `pieces`.

Each part is read by itself, so that no snapshot of the database is kept for long, and no more than
a part is in memory. What is stored after the beginning is not in it.
"""

import base64
import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from peewee import Field, fn

from premblyd import csvtext, jsontext, times
from premblyd.engines.engine import Database
from premblyd.engines.portions import of_size
from premblyd.model import tables
from premblyd.model.columns import ColumnType, Seen
from premblyd.model.keeptables import Closing, Erasure, Hold, Removal
from premblyd.model.table import Table
from premblyd.record import lists, queries
from premblyd.record.operating import RecordedExport
from premblyd.record.queries import MOST_ROWS, By, Row
from premblyd.times import HOUR_MS

REVEALED_ROWS = 100  # of a part, as each may have 64 KiB that a hook printed
MOST_BYTES = 8 << 20  # of the bodies of a part, unless one alone has more


class Format(StrEnum):
    CSV = "csv"  # for a spreadsheet
    JSONL = "jsonl"  # exact: a JSON object in each line


@dataclass(frozen=True, slots=True)
class _Kind:
    """A table that is exported. Of its rows those are chosen whose time `at` is within the period;
    with `rises`, later ones have higher ids, but around a moment when a clock was set."""

    table: type[Table]
    at: Field
    rises: bool = True


KINDS = {
    "events": _Kind(tables.Event, tables.Event.received_at_ms),
    "deliveries": _Kind(tables.Delivery, tables.Delivery.created_at_ms),
    "attempts": _Kind(tables.Attempt, tables.Attempt.started_at_ms),
    "inquiries": _Kind(tables.Inquiry, tables.Inquiry.at_ms),
    "pending": _Kind(tables.Awaited, tables.Awaited.created_at_ms),
    "rejections": _Kind(tables.Rejection, tables.Rejection.at_ms, rises=False),
    "operators": _Kind(tables.OperatorAction, tables.OperatorAction.at_ms),
    "holds": _Kind(Hold, Hold.at_ms),
    "closings": _Kind(Closing, Closing.noted_at_ms, rises=False),
    "erasures": _Kind(Erasure, Erasure.at_ms),
    "removals": _Kind(Removal, Removal.day_ms, rises=False),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """From when to when, in Unix milliseconds; `until_ms` itself is not in it."""

    since_ms: int
    until_ms: int

    def has(self, at_ms: Any) -> bool:
        """Return whether a time is in it. What is none, as somebody has changed it, is."""
        return not isinstance(at_ms, int) or self.since_ms <= at_ms < self.until_ms


def about(what: str, period: Period, *, is_revealed: bool) -> str:
    """Return what an export is said to be on record. It names nobody."""
    since, until = times.for_people(period.since_ms), times.for_people(period.until_ms)
    return f"{what} from {since} to {until} UTC, {'revealed' if is_revealed else 'masked'}"


def pieces(
    database: Database,
    what: str,
    period: Period,
    form: Format,
    recorded: RecordedExport | None = None,
) -> Iterator[bytes]:
    """Yield the rows of one of KINDS that are of a period, in the order of their ids, as pieces of
    a file: with personal data as lists mask it, and without payload; `recorded`: with all of it.
    Raise StoreUnreadableError when it can't be read."""
    kind = KINDS[what]
    row = _row(kind.table, is_whole=recorded is not None)
    if form is Format.CSV:
        yield csvtext.head(_names(row, form))
    for part in _parts(database, kind, row, period):
        rows = [_shown(each, is_whole=recorded is not None) for each in part]
        if form is Format.CSV:
            yield csvtext.lines(_cells(row, each) for each in rows)
        else:
            yield b"".join(jsontext.dumps(_json(row, each)) + b"\n" for each in rows)


def columns(what: str, form: Format, *, is_revealed: bool) -> list[str]:
    """Return the names that the rows of one of KINDS have in a format, in their order."""
    return _names(_row(KINDS[what].table, is_whole=is_revealed), form)


def _row(table: type[Table], *, is_whole: bool) -> type[Row]:
    seen = Seen.EVENT if is_whole else Seen.LISTS
    row: type[Row] = queries.row_of(table, seen)(type(f"{table.__name__}Exported", (), {}))
    return row


def _parts(database: Database, kind: _Kind, row: type[Row], period: Period) -> Iterator[list[Row]]:
    """Yield the rows, part by part. No statement looks at more than MOST_ROWS."""
    table = kind.table
    last = queries.value(database, table.select(fn.MAX(table.id))) or 0
    start = 1
    if kind.rises:
        first = lists.first_since(database, table, kind.at, period.since_ms - HOUR_MS)
        end = lists.first_since(database, table, kind.at, period.until_ms + HOUR_MS)
        start, last = first, min(last, end - 1)
    has_bodies = any(field.name == "body" for field in dataclasses.fields(row))
    has_payload = has_bodies or any(field.name == "output" for field in dataclasses.fields(row))
    most = REVEALED_ROWS if has_payload else MOST_ROWS
    size = tables.Event.body_bytes if has_bodies else table.id
    while start <= last:
        query = table.select(table.id, kind.at, size).from_(By(table, None))
        ahead = query.where(table.id.between(start, last)).order_by(table.id).limit(most)
        found = queries.tuples(database, ahead)
        if not found:
            return
        sizes = [(row[0], row[2]) for row in found if period.has(row[1])]
        for ids in of_size(sizes, MOST_BYTES) if has_bodies else [[number for number, _ in sizes]]:
            if ids:
                yield _of(database, table, row, ids)
        start = found[-1][0] + 1


def _of(database: Database, table: type[Table], row: type[Row], ids: list[int]) -> list[Row]:
    query = table.select(*queries.columns(table, row)).where(table.id.in_(ids))
    return queries.rows(database, query.order_by(table.id), row)


def _shown(row: Row, *, is_whole: bool) -> dict[str, Any]:
    return dataclasses.asdict(row) if is_whole else row.masked()


def _names(row: type[Row], form: Format) -> list[str]:
    """Return the names of the columns. In a spreadsheet a time is a text, so `at_ms` is `at`; a
    body is in UTF-8 or, where it is none, in base64."""
    names = []
    for each in dataclasses.fields(row):
        is_time = form is Format.CSV and each.metadata["kind"] is ColumnType.MOMENT
        names.append(each.name.removesuffix("_ms") if is_time else each.name)
        if each.metadata["kind"] is ColumnType.BYTES:
            names.append(f"{each.name}_base64")
    return names


def _cells(row: type[Row], shown: dict[str, Any]) -> Iterator[Any]:
    for each in dataclasses.fields(row):
        value = shown[each.name]
        match each.metadata["kind"]:
            case ColumnType.MOMENT:
                yield times.for_people(value)
            case ColumnType.BYTES:
                yield from _body(value)
            case _:
                yield value


def _json(row: type[Row], shown: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for each in dataclasses.fields(row):
        value = shown[each.name]
        match each.metadata["kind"]:
            case ColumnType.JSON:
                found[each.name] = _document(value)
            case ColumnType.BYTES:
                found[each.name], found[f"{each.name}_base64"] = _body(value)
            case _:
                found[each.name] = value
    return found


def _document(text: Any) -> Any:
    """Return what a JSON text says; a text that is none, as it is."""
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return text


def _body(body: Any) -> tuple[str | None, str | None]:
    """Return a body as text, or in base64 where it is none."""
    if not isinstance(body, bytes):
        return str(body), None  # it can't be opened
    try:
        return body.decode(), None
    except UnicodeDecodeError:
        return None, base64.b64encode(body).decode()
