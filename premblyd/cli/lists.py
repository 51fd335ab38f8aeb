"""The lists: `events`, `deliveries`, `rejections`. Their options are made from their
filters (record/filters.py), and their columns are in LISTS."""

import re
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

from premblyd.cli import caller
from premblyd.cli.common import (
    WHEN,
    Typed,
    count_option,
    database_of,
    open_to_read,
    record_options,
    settings_if_valid,
)
from premblyd.cli.printing import Column, clean, json_line, print_listed
from premblyd.config.values import TYPE_PATTERN, When
from premblyd.ground import times
from premblyd.ground.databases import DatabaseAddress
from premblyd.record import lists, unknown
from premblyd.record.events import event_ids, find_event_id, last_event_id
from premblyd.record.filters import DeliveryFilter, EventFilter, RejectionFilter
from premblyd.record.listing import Chosen, Filter, Reads, filters_of
from premblyd.record.lists import EventRow
from premblyd.store.connections import backend, connect_read_only
from premblyd.store.engine import Database

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=Chosen)
MAX_ROWS = 1_000_000_000


def _outcome(event: Any) -> str:
    """Return what an event says of the person, beside what speaks against it."""
    said = f"{event.outcome} ({event.doubt})" if event.doubt else str(event.outcome)
    return lists.instead(event, "outcome") or said


def _code(row: Any) -> str:
    return row.response_code or "missing"


def _reference(event: Any) -> str | None:
    """Return an event's reference, or why it has none any more."""
    reference: str | None = event.reference
    return reference or lists.instead(event, "reference")


def _why(delivery: Any) -> str | None:
    """Return why a delivery has not succeeded, as far as that is known."""
    if delivery.ran_instead_id is not None:
        other, event = delivery.ran_instead_id, delivery.ran_instead_event_id
        return f"delivery {other} (event {event}) ran instead"
    return lists.instead(delivery, "last_error") or delivery.last_error


class Shown(NamedTuple):
    """How a list is printed: without rows, and its columns."""

    empty: str
    columns: tuple[Column, ...]


LISTS: dict[type[Chosen], Shown] = {
    EventFilter: Shown(
        "No events.",
        (
            Column("id", kind="whole"),
            Column("received (UTC)", "received_at_ms", kind="time"),
            Column("type", rank=5, kind="reference"),
            Column("code", _code, rank=2, kind="reference"),
            Column("outcome", _outcome, rank=1, kind="whole"),
            Column("reference", _reference, rank=3, kind="reference"),
            Column("duplicates", lambda event: event.duplicate_count or "", rank=5, kind="whole"),
            Column("user ref", "user_ref", rank=6, kind="reference"),
            Column("kind", rank=7, kind="whole"),
            Column("endpoint", rank=8, kind="reference"),
            Column("handled", rank=4, kind="whole"),
        ),
    ),
    DeliveryFilter: Shown(
        "No deliveries.",
        (
            Column("id", kind="whole"),
            Column("event", "event_id", kind="whole"),
            Column("action", rank=1, kind="reference"),
            Column("state", kind="whole"),
            # Questions to Prembly alone count too.
            Column("attempts", "attempt_count", rank=5, kind="whole"),
            Column(
                "due (UTC)",
                lambda delivery: None if delivery.state == "running" else delivery.due_at_ms,
                rank=4,
                kind="time",
            ),
            Column("error", _why, rank=3, kind="words"),
            Column("reference", rank=2, kind="reference"),
            Column("code", _code, rank=6, kind="reference"),
            Column("type", rank=7, kind="reference"),
        ),
    ),
    RejectionFilter: Shown(
        "No rejections.",
        (
            Column("id", rank=4, kind="whole"),
            Column("when (UTC)", "at_ms", kind="time"),
            Column("from", "remote_ip", rank=1, kind="whole"),
            Column("reason"),
            Column("endpoint", rank=2, kind="reference"),
            Column("bytes", "body_bytes", rank=3, kind="whole"),
            Column("digest", "body_digest", rank=6, kind="reference"),
        ),
    ),
}


def print_list(
    kind: type[Chosen],
    rows: Sequence[Any],
    *,
    as_json: bool = False,
    shown: Shown | None = None,
    **how: Any,
) -> None:
    """Print rows of a list, as `print_listed` does. `shown`: of a list that is a feature's."""
    empty, columns = shown or LISTS[kind]
    print_listed(columns, rows, empty=empty, as_json=as_json, **how)


def _lower(name: str, pattern: str, words: str) -> Typed[str]:
    """Return what reads a text of this pattern in small letters."""
    return Typed(
        name, lambda text: text.lower() if re.fullmatch(pattern, text.lower()) else None, words
    )


_TYPE_WORDS = "not a type such as sdk.session, or a pattern such as credit.*"
_KEY_WORDS = "not a key: 32 hex digits, or the first of them"
TYPES: dict[Reads, click.ParamType[Any]] = {
    Reads.TYPE: _lower("TYPE", TYPE_PATTERN, _TYPE_WORDS),
    Reads.TIME: WHEN,
    Reads.KEY: _lower("KEY", r"[0-9a-f]{1,32}", _KEY_WORDS),
}
_limit = count_option("--limit", 50, MAX_ROWS, "Show at most this many.")
_wide = click.option("--wide", is_flag=True, help="Show every column, whole.")


def list_options(kind: type[Chosen]) -> Callable[[F], F]:
    """Add an option for each filter of a list, with the filter's field as parameter, and those that
    every list has: `limit`, `wide`, `database`, `config_path` and `as_json`."""

    def add(command: F) -> F:
        return filter_options(kind)(_limit(_wide(record_options(command))))

    return add


def filter_options(kind: type[Chosen], *fields: str) -> Callable[[F], F]:
    """Add an option for each filter of a list, or for these fields."""
    own = [
        each for each in filters_of(kind) if each.help and each.field in (fields or {each.field})
    ]

    def add(command: F) -> F:
        for each in reversed(own):
            command = _option(each)(command)
        return command

    return add


def _option(each: Filter) -> Callable[[F], F]:
    name = f"--{(each.option or each.name).replace('_', '-')}"
    if each.reads is Reads.YES:
        return click.option(name, each.field, is_flag=True, help=each.help)
    kind = click.Choice(each.choices) if each.choices else TYPES.get(each.reads)
    return click.option(name, each.field, type=kind, help=each.help)


@click.command()
@click.option(
    "--follow",
    is_flag=True,
    help="Keep running and show new events as they arrive. Ctrl-C stops it.",
)
@list_options(EventFilter)
def events(*, follow: bool, **asked: Any) -> None:
    """Newest first. Payloads are not shown: see `premblyd show`.

    With --follow the newest come last, and --json prints one line for each event.
    """
    if follow:
        _follow(**asked)
    else:
        list_rows(EventFilter, **asked)


@click.command()
@list_options(DeliveryFilter)
def deliveries(**asked: Any) -> None:
    """Newest first."""
    list_rows(DeliveryFilter, **asked)


@click.command()
@list_options(RejectionFilter)
def rejections(**asked: Any) -> None:
    """Newest first. The newest 10,000 are kept, without their bodies."""
    list_rows(RejectionFilter, **asked)


def list_rows(
    kind: type[Chosen],
    *,
    config_path: Path,
    database: str | None,
    limit: int,
    wide: bool,
    as_json: bool,
    shown: Shown | None = None,
    **asked: Any,
) -> list[Any]:
    """Print what is asked for of a list, and return its rows."""
    record = open_to_read(database_of(config_path, database))
    rows = lists.rows(record, chosen_by(kind, record, asked), limit)
    hint = "--wide shows all."
    print_list(kind, rows, wide=wide, hint=hint, as_json=as_json, shown=shown)
    if not rows:
        _note_unknown(record, config_path, database, asked)
    return rows


def _follow(
    *,
    config_path: Path,
    database: str | None,
    limit: int,
    wide: bool,  # a line for each event has all
    as_json: bool,
    **asked: Any,
) -> None:
    if asked["until_ms"] is not None:
        raise click.UsageError("--follow never ends: leave out --until.")
    place = database_of(config_path, database)
    with closing(connect_read_only(place)) as record:  # it is opened anew with each look
        chosen = chosen_by(EventFilter, record, asked)
        _note_unknown(record, config_path, database, asked)
    follow(place, chosen, limit=limit, as_json=as_json)


def chosen_by(kind: type[C], record: Database, asked: dict[str, Any]) -> C:
    """Return which rows the options ask for. Raise NotFoundError for an event that is not there."""
    values = dict(asked)
    for each in filters_of(kind):
        value = values.get(each.field)
        if each.reads is Reads.EVENT and value is not None:
            values[each.field] = find_event_id(record, value)
        elif isinstance(value, When):
            values[each.field] = value.by(record.now_ms())
    return kind(**values)


def _note_unknown(
    record: Database, config_path: Path, database: str | None, asked: dict[str, Any]
) -> None:
    """Say what makes a list empty whatever there is: a name that nobody knows, times in which
    nothing can be."""
    notes: list[str | None] = []
    since, until, at_ms = asked.get("since_ms"), asked.get("until_ms"), record.now_ms()
    if since and until and since.by(at_ms) >= until.by(at_ms):
        notes.append("--since is not before --until: nothing can be in between.")
    if action := asked.get("action"):
        settings = settings_if_valid(config_path, database)
        notes.append(unknown.action(record, settings, action))
    notes += [
        says(record, asked[name])
        for name, says in (
            ("type", unknown.event_type),
            ("code", unknown.code),
            ("reason", unknown.reason),
        )
        if asked.get(name) is not None
    ]
    for words in filter(None, notes):
        click.echo(f"note: {clean(words)}", err=True)


EVERY_S = 0.5
PART = 500  # rows that are read at once
LATE_S = 15.0  # no transaction of a daemon takes longer
_INTERRUPT = {signal.SIGINT}


def follow(place: DatabaseAddress, chosen: EventFilter, *, limit: int, as_json: bool) -> None:
    """Print the newest events that are `chosen`, the newest last, then new ones as they come. End
    when the reader has left, or at Ctrl-C."""
    # Taken only while nothing is printed: an interrupted write is not known to have been done, and
    # would be done once more.
    signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPT)
    try:
        for rows in _parts(place, chosen, limit):
            for row in rows:
                click.echo(json_line(row) if as_json else _as_text(row))
            caller.flush()
            if _is_over(0 if len(rows) >= PART else EVERY_S):
                return
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPT)


def _is_over(timeout_s: float) -> bool:
    """Wait. Return whether nobody wants more: the reader has left, or pressed Ctrl-C."""
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPT)
        return caller.wait_for_reader_to_leave(timeout_s)
    except KeyboardInterrupt:
        return True
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPT)


def _parts(place: DatabaseAddress, chosen: EventFilter, limit: int) -> Iterator[Sequence[EventRow]]:
    """Yield the events so far, then those that have come since, for ever. The database is opened
    anew each time: by the next look the daemon may have begun, or somebody put a copy back."""
    late = _Late() if backend(place).is_shared else None
    with closing(connect_read_only(place)) as record:
        last_id = last_event_id(record)
        if late is not None:
            late.expect(record, max(0, last_id - PART), last_id)
        yield lists.rows(record, chosen, limit, last_id + 1)[::-1]
    while True:
        with closing(connect_read_only(place)) as record:
            overtaken = late.read(record, chosen) if late is not None else []
            # Taken first: what comes while the others are read is read the next time.
            newest_id = last_event_id(record)
            rows = lists.events_after(record, chosen, last_id, PART)
            is_full = len(rows) == PART
            until = rows[-1].id if is_full else max(newest_id, *(row.id for row in rows), 0)
            if late is not None:
                late.expect(record, last_id, until)
            last_id = until
        yield [*overtaken, *rows]


class _Late:
    """Numbers that were left out: of what never came, or of what another host is storing still."""

    def __init__(self) -> None:
        self._missing: dict[int, float] = {}  # and until when each is looked for

    def expect(self, record: Database, after_id: int, last_id: int) -> None:
        """Look for what is not there yet of the numbers up to `last_id`."""
        numbers = range(after_id + 1, last_id + 1)
        end = time.monotonic() + LATE_S
        there = event_ids(record, numbers)
        self._missing |= {number: end for number in numbers if number not in there}

    def read(self, record: Database, chosen: EventFilter) -> list[EventRow]:
        """Return those that have come since and are `chosen`."""
        there = event_ids(record, self._missing)
        now = time.monotonic()
        self._missing = {
            number: end
            for number, end in self._missing.items()
            if number not in there and end > now
        }
        return lists.events_of(record, chosen, sorted(there)) if there else []


def _as_text(row: EventRow) -> str:
    cells = (
        f"{row.id:>6}",
        times.for_people(row.received_at_ms),
        f"{clean(row.type or '-'):<21}",
        f"{clean(row.response_code or 'missing'):<4}",
        f"{clean(lists.instead(row, 'outcome') or row.outcome).partition(' ')[0]:<12}",
        f"{clean(row.reference or '-'):<36}",
        clean(row.user_ref or "-"),
    )
    return "  ".join(cells).rstrip()
