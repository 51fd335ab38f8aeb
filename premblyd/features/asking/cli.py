"""premblyd reconcile and premblyd unsettled: their options, and what they print. reconciliation.py
does the work."""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import date
from itertools import chain
from pathlib import Path
from typing import IO, Any

import click

from premblyd.cli import as_service, config_option, json_option
from premblyd.cli.caller import actor
from premblyd.cli.common import WHEN, Typed, database_of, open_to_change, open_to_read
from premblyd.cli.lists import Shown, list_options, list_rows
from premblyd.cli.printing import (
    Column,
    clean,
    print_json,
    print_rows,
    print_sentence,
    print_told,
    progress,
    showing,
)
from premblyd.config.load import load_config
from premblyd.config.values import When
from premblyd.features.asking import days, listing
from premblyd.features.asking.answers import is_askable
from premblyd.features.asking.days import GRACE_MS, Day
from premblyd.features.asking.listing import DISMISSED, AwaitedFilter
from premblyd.features.asking.log import NotAllowedToAskError, Window
from premblyd.features.asking.reconciliation import Absent, Fate, Reconciliation
from premblyd.features.asking.settings import may_ask
from premblyd.ground import logs, times
from premblyd.ground.errors import PremblydError
from premblyd.ground.privacy import is_reference, safe_id
from premblyd.ground.times import DAY_MS
from premblyd.ground.words import counted
from premblyd.record import operating
from premblyd.record.events import find_event_id
from premblyd.record.operating import Operator
from premblyd.store.engine import Database

SHOWN_LINES = 20  # that are named
INCOMPLETE = "incomplete"
_COUNTS = {
    "not_ended": "Not ended yet, so not expected",
    "unreadable": "Without an id or a time",
    "too_old": "So old that `retention` has deleted the references, so not expected",
    "given_up": "Without a result, at Prembly too",
    "nameless": "Events that can't be compared: neither a reference nor a session",
    "of_another_time": (
        "Of a time that was not asked for; `prembly.logs.parameters` with since and until empty"
        " asks for all times"
    ),
}


class ListError(PremblydError):
    """The list has lines that are no references. The text quotes none: in a wrong file there are
    people's numbers."""

    exit_code = 2  # 1 means that something is missing


def read_references(file: IO[bytes]) -> dict[str, int]:
    """Return the references in `file`, one a line, each once with the number of its line. Raise
    ListError when a line is none, or there is none."""
    text = file.read().decode("utf-8-sig", "replace")
    lines = {number: line.strip() for number, line in enumerate(text.split("\n"), 1)}
    wrong = [number for number, line in lines.items() if line and not is_askable(line)]
    if wrong:
        shown = ", ".join(map(str, wrong[:SHOWN_LINES])) + (", …" if wrong[SHOWN_LINES:] else "")
        raise ListError(
            f"The list has one reference of Prembly a line: letters, digits and . _ : ~ -, at most"
            f" 200. Lines that have not: {shown}."
        )
    found: dict[str, int] = {}
    for number, line in lines.items():
        if line:
            found.setdefault(line, number)
    if not found:
        raise ListError("The list has no reference.")
    return found


def _day(text: str) -> str:
    if text != INCOMPLETE:
        date.fromisoformat(text)
    return text


@click.command()
@click.argument("file", required=False, type=click.File("rb"))
@click.option("--since", type=WHEN, help="Compare Prembly's log from then on: 2026-01-31, 7d.")
@click.option(
    "--day",
    type=Typed("D", _day, "not a day such as 2026-01-31"),
    help="Compare one day (UTC), and record whether it is complete: 2026-01-31. `incomplete`:"
    " yesterday, and each of the last seven days that is not complete yet.",
)
@click.option("--store", is_flag=True, help="Ask Prembly for each missing one, and store it.")
@config_option
@json_option
def reconcile(
    config_path: Path,
    *,
    file: IO[bytes] | None,
    since: When | None,
    day: str | None,
    store: bool,
    as_json: bool,
) -> None:
    """Compares the events here with Prembly's log of verifications (default: --since 24h), or with
    the references in FILE, one a line (- is standard input), and lists those without an event.

    With --store Prembly is asked for each missing one, and its answer is stored as an event of type
    prembly.status, whose actions run. What is already stored is not asked for again, so a run that
    was interrupted continues with the next.

    Also listed: events that do not say how the verification ended (unsettled), that contradict
    themselves (doubted), or that differ from Prembly's answer (differs).

    Exit status 1: something is missing, or may be, or a day is not complete. 2: lines of FILE are
    no references. 75: Prembly could not be reached. 78: it refuses the API key.
    """
    if [file, since, day].count(None) < 2:
        raise click.UsageError("FILE, --since and --day can't be combined.")
    asks = file is None or store
    if asks:  # with the service's keys, and as its user, to whom the database belongs
        as_service.hand_over(config_path, file)
    settings = load_config(config_path, look_up_secrets=asks)
    if asks and not may_ask(settings):
        raise NotAllowedToAskError(None)
    references = read_references(file) if file is not None else None
    database = (open_to_change if store or day else open_to_read)(settings.database)
    clock = database.clock()
    windows: list[Window | None] = [None]
    if file is None:
        windows = [*_windows(database, since, day, clock.now_ms())]
    logs.configure("auto", "critical")  # what went wrong is told in this command's words
    found: list[tuple[Reconciliation, Day | None]] = []
    for window in windows:
        work = Reconciliation(
            settings=settings,
            database=database,
            endpoint=settings.endpoints[0].name,
            stores=store,
            clock=clock,
            window=window,
        )
        if references is not None:
            work.compare_list(references)
        result = _run(work, keeps=day is not None, silent=as_json)
        found.append((work, result))
        if not as_json:
            _report(work)
            if result is not None:
                print_sentence(result.sentence)
        if work.stopped_by is not None:
            break
    if as_json:
        told = [_as_json(*each) for each in found]
        print_json({"days": told} if day else told[0])
    elif not found:
        click.echo(f"Each of the last {days.NIGHTS} days is complete.")
    _end(found)


def _run(work: Reconciliation, *, keeps: bool, silent: bool) -> Day | None:
    """Find and ask what there is. Return the day, if it `keeps` what was found of it."""
    with progress(silent=silent) as shown:
        work.show = showing(shown)
        try:
            asyncio.run(work.run())
        except KeyboardInterrupt:
            work.stopped_by = PremblydError("Interrupted. The next run continues from here.")
            return None
    work.mark_downtimes()
    if not keeps or work.window is None:
        return None
    try:
        return days.keep(work, work.window.since_ms)
    except PremblydError as error:  # what was found before that is told all the same
        work.stopped_by = work.stopped_by or error
        return None


def _end(found: Sequence[tuple[Reconciliation, Day | None]]) -> None:
    """End as what was found says."""
    for work, _ in found:
        if work.stopped_by is not None:
            raise work.stopped_by
    if any(
        work.missing or not work.is_sure or (day is not None and day.needs_somebody)
        for work, day in found
    ):
        raise SystemExit(1)


def _windows(
    database: Database, since: When | None, day: str | None, now_ms: int
) -> Iterator[Window]:
    if day is None:
        since_ms = now_ms - DAY_MS if since is None else since.by(now_ms)
        if since_ms >= now_ms - GRACE_MS:
            raise click.UsageError("--since should be more than a minute ago.")
        yield Window(since_ms=since_ms, until_ms=now_ms - GRACE_MS)
        return
    for day_ms in days.due(database, now_ms) if day == INCOMPLETE else [times.from_iso(day)]:
        until_ms = min(day_ms + DAY_MS, now_ms - GRACE_MS)
        if day_ms >= until_ms:
            raise click.UsageError("--day is in the future.")
        yield Window(since_ms=day_ms, until_ms=until_ms)


def _report(work: Reconciliation) -> None:
    numbers, missing = work.numbers(), work.missing
    ended = numbers["ended"]
    if work.window is not None and work.log.pages:
        since, until = (times.for_people(ms) for ms in (work.window.since_ms, work.window.until_ms))
        click.echo(
            f"Prembly's log from {since} to {until} UTC has {counted(ended, 'verification')} that"
            f" ended ({counted(work.log.pages, 'page')})."
        )
    for name, words in _COUNTS.items():
        if numbers[name]:
            click.echo(f"{words}: {numbers[name]}.")
    if not work.is_sure:
        click.echo("Not sure: Prembly's log repeats entries, so that it may have more.")
    if numbers["stored"]:
        events = counted(numbers["stored"], "event")
        click.echo(f"Stored missed webhooks: {events}. A running daemon runs their actions now.")
    if work.listed:
        click.echo(
            f"Without a result: {counted(len(work.listed), 'verification')} of {ended}. With an API"
            " key, Prembly could be asked."
        )
        _print_absent(work, work.listed)
    if missing:
        click.echo(f"Missing: {len(missing)} of {ended}.")
        _print_absent(work, missing)
        if not work.stores:
            click.echo("--store asks Prembly for each of them.")
    elif work.stopped_by is None and work.is_sure:
        click.echo(
            "Nothing to compare: Prembly's log has nothing for this period."
            if work.is_empty
            else "Nothing is missing."
        )


def _print_absent(work: Reconciliation, absent: Sequence[Absent]) -> None:
    print_rows(OF_LIST if work.window is None else OF_LOG, absent, empty="")


def _as_json(work: Reconciliation, day: Day | None) -> dict[str, Any]:
    return {
        **work.numbers(),
        "absent": [
            {
                "line": each.line,
                "reference": _shown(each),
                "at_ms": each.at_ms,
                "response_code": each.code,
                "status": each.status,
                "fate": str(each.fate),
                "why": each.why,
            }
            for each in work.absent
        ],
        "is_sure": work.is_sure,
        "error": str(work.stopped_by) if work.stopped_by else None,
        "day": day,
    }


def _why(each: Absent) -> str:
    return each.why or ("" if each.fate is Fate.MISSING else str(each.fate))


def _shown(each: Absent) -> str:
    """Return a reference as it may be seen. In a log, or in a wrong list, a person's number or name
    may stand instead: then a digest of it."""
    text = each.reference
    return clean(text if is_reference(text) else safe_id(text))


_REFERENCE = Column("reference", _shown)
_WHY = Column("why", _why)
OF_LOG = (
    _REFERENCE,
    Column("when (UTC)", "at_ms", kind="time"),
    Column("code", kind="whole"),
    Column("status"),
    _WHY,
)
OF_LIST = (Column("line", kind="whole"), _REFERENCE, _WHY)

SHOWN = Shown(
    "No unsettled verifications.",
    (
        Column("id", kind="whole"),
        Column("event", "event_id", kind="whole"),
        Column("state", kind="whole"),
        Column("asked", "ask_count", kind="whole"),
        Column("due (UTC)", "due_at_ms", kind="time"),
        Column("settled by", "settled_by_id", kind="whole"),
        Column("error", "last_error"),
        Column("reference"),
        Column("created (UTC)", "created_at_ms", kind="time"),
    ),
)


@click.command()
@click.option(
    "--dismiss",
    metavar="EVENT",
    help="Dismiss this event (a number or a key), or `all`: `status` stops listing it.",
)
@list_options(AwaitedFilter)
def unsettled(*, dismiss: str | None, **asked: Any) -> None:
    """Newest first. If the configuration has `pending`, Prembly is asked about each that waits."""
    if dismiss is None:
        list_rows(AwaitedFilter, shown=SHOWN, **asked)
        return
    record = open_to_change(database_of(asked["config_path"], asked["database"]))
    if dismiss == "all":
        event_ids = sorted({*chain(*listing.undismissed_ids(record).values())})
    else:
        event_ids = [find_event_id(record, dismiss)]
    changes = Operator(actor=actor()).record_events(DISMISSED, event_ids, record.now_ms())
    count = sum(operating.transact_all(record, changes))
    told = f"Dismissed {counted(count, 'event')}."
    print_told({"dismissed": count}, told, as_json=asked["as_json"])
