"""Events as they come, for `premblyd events --follow`."""

import dataclasses
import signal
from collections.abc import Iterator, Sequence
from contextlib import closing

import click

from premblyd import times
from premblyd.cli import streams
from premblyd.cli.printing import clean, json_line
from premblyd.databases import Place
from premblyd.record import reading
from premblyd.record.reading import EventFilter, Page
from premblyd.record.rows import EventRow
from premblyd.store.connections import connect_read_only

EVERY_S = 0.5
PART = 500  # rows that are read at once
_INTERRUPT = {signal.SIGINT}


def follow(path: Place, chosen: EventFilter, *, limit: int, as_json: bool) -> None:
    """Print the newest events that are `chosen`, the newest last, then new ones as they come. End
    when the reader has left, or at Ctrl-C."""
    # Taken only while nothing is printed: an interrupted write is not known to have been done, and
    # would be done once more.
    signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPT)
    try:
        for rows in _parts(path, chosen, limit):
            for row in rows:
                click.echo(json_line(dataclasses.asdict(row)) if as_json else _as_text(row))
            streams.flush()
            if _is_over(0 if len(rows) == PART else EVERY_S):
                return
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPT)


def _is_over(timeout_s: float) -> bool:
    """Wait so long. Return whether nobody wants more: the reader has left, or it is interrupted."""
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPT)
        return streams.wait_for_reader_to_leave(timeout_s)
    except KeyboardInterrupt:
        return True
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPT)


def _parts(path: Place, chosen: EventFilter, limit: int) -> Iterator[Sequence[EventRow]]:
    """Yield the events so far, then those that have come since, for ever. The database is opened
    anew each time: by the next look the daemon may have begun, or somebody put a copy back."""
    with closing(connect_read_only(path)) as record:
        last_id = reading.last_event_id(record)
        yield reading.events(record, chosen, Page(limit=limit, before_id=last_id + 1))[::-1]
    while True:
        with closing(connect_read_only(path)) as record:
            # Taken first: what comes while the others are read is read the next time.
            newest_id = reading.last_event_id(record)
            rows = reading.events_after(record, chosen, last_id, PART)
        last_id = rows[-1].id if len(rows) == PART else max(newest_id, *(row.id for row in rows), 0)
        yield rows


def _as_text(row: EventRow) -> str:
    cells = (
        f"{row.id:>6}",
        times.for_people(row.received_at_ms),
        f"{clean(row.type or '-'):<21}",
        f"{clean(row.response_code or '-'):<4}",
        f"{clean(row.outcome):<12}",
        f"{clean(row.reference or '-'):<36}",
        clean(row.user_ref or "-"),
    )
    return "  ".join(cells).rstrip()
