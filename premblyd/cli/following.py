"""Events as they come, for `premblyd events --follow`."""

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import closing

import click

from premblyd.cli import caller
from premblyd.cli.printing import clean, json_line
from premblyd.ground import times
from premblyd.ground.databases import DatabaseAddress
from premblyd.record import events, lists
from premblyd.record.filters import EventFilter
from premblyd.record.lists import EventRow
from premblyd.store.connections import backend, connect_read_only
from premblyd.store.engine import Database

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
    """Wait so long. Return whether nobody wants more: the reader has left, or it is interrupted."""
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
        last_id = events.last_event_id(record)
        if late is not None:
            late.expect(record, max(0, last_id - PART), last_id)
        yield lists.rows(record, chosen, limit, last_id + 1)[::-1]
    while True:
        with closing(connect_read_only(place)) as record:
            overtaken = late.read(record, chosen) if late is not None else []
            # Taken first: what comes while the others are read is read the next time.
            newest_id = events.last_event_id(record)
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
        there = events.event_ids(record, numbers)
        self._missing |= {number: end for number in numbers if number not in there}

    def read(self, record: Database, chosen: EventFilter) -> list[EventRow]:
        """Return those that have come since and are `chosen`."""
        there = events.event_ids(record, self._missing)
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
