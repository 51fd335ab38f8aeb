"""premblyd reconcile: its options, lists of references (one a line, or a column of a CSV file),
and what it prints. reconciliation.py does the work."""

import asyncio
import codecs
import contextlib
import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import click

from premblyd.cli import as_service, config_option, json_option
from premblyd.cli.common import WHEN, Typed, open_to_change, open_to_read
from premblyd.cli.printing import (
    Column,
    clean,
    print_json,
    print_rows,
    print_sentence,
    progress,
    showing,
)
from premblyd.config.load import load_config
from premblyd.config.models import named
from premblyd.config.values import When
from premblyd.features.asking import days
from premblyd.features.asking.answers import is_askable
from premblyd.features.asking.days import Day
from premblyd.features.asking.log import Window
from premblyd.features.asking.reconciliation import Absent, Fate, Reconciliation
from premblyd.features.asking.settings import may_ask
from premblyd.ground import logs, times
from premblyd.ground.errors import NotAllowedToAskError, PremblydError
from premblyd.ground.times import DAY_MS
from premblyd.ground.words import counted
from premblyd.store.engine import Database

SHOWN_LINES = 20  # that are named
_SEPARATORS = ",;\t|"
_TITLES = frozenset({"reference", "reference_id", "references", "id", "verification_id"})
_WRONG = "not a reference of Prembly, which has letters, digits and . _ : ~ -, at most 200"


class ListError(PremblydError):
    """Nothing of the list can be used. The text says why, and quotes no line: in a wrong column
    there are people's numbers."""

    exit_code = 2  # 1 means that something is missing


@dataclass(frozen=True, slots=True, kw_only=True)
class References:
    """The references of a list, each once, in their order, with the number of the line where it
    stands first; and the numbers of the lines that hold none, which are left out."""

    name: str
    found: Mapping[str, int]
    wrong_lines: Sequence[int]

    @property
    def complaint(self) -> str | None:
        """Which lines are wrong, and how; None: none is. It quotes no line."""
        return f"{self.name}, {_lines(self.wrong_lines)}: {_WRONG}." if self.wrong_lines else None


def read_references(file: IO[bytes], name: str, column: str | None) -> References:
    """Return the references in `file`. `column`: it is a CSV file, and they are in the column of
    this name. Raise ListError when there is none."""
    text = _text(file.read(), name)
    lines = _in_column(text, name, column) if column is not None else _one_a_line(text, name)
    found: dict[str, int] = {}
    wrong: list[int] = []
    for line, value in lines:
        if value is not None and is_askable(value):
            found.setdefault(value, line)
        else:
            wrong.append(line)
    if not found:
        why = f" In {_lines(wrong)}: {_WRONG}." if wrong else ""
        raise ListError(f"{name} has no reference." + why)
    return References(name=name, found=found, wrong_lines=wrong)


def _text(data: bytes, name: str) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ListError(f"{name} is UTF-16: save it as UTF-8 (in Excel: CSV UTF-8).")
    # What is no UTF-8 is wrong only where a reference should be: no half character is in one.
    return data.decode("utf-8-sig", "surrogateescape")


def _one_a_line(text: str, name: str) -> Iterator[tuple[int, str]]:
    lines = [line.strip() for line in text.split("\n")]
    for number, line in enumerate(lines, 1):
        if not line or line.startswith("#"):
            continue
        if number == 1 and any(separator in line for separator in _SEPARATORS):
            titles = ", ".join(_titles(line.split(_separator(line))))
            raise ListError(
                f"{name}, line 1: there are several columns. Say which one has the references:"
                f" --column with {titles or 'its title (the first line has none)'}."
            )
        if number == 1 and line.lower() in _TITLES:
            continue
        yield number, line


def _in_column(text: str, name: str, column: str) -> Iterator[tuple[int, str | None]]:
    """Yield the number of each row's last line, and what stands in the column; None for a row that
    is no CSV."""
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(text))
    try:
        titles = next(rows, [])
    except csv.Error as error:
        raise ListError(f"{name}, line 1: not CSV: {error}.") from None
    index = _index(titles, column, name)
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error:
            yield rows.line_num, None
            continue
        value = row[index].strip() if index < len(row) else ""
        if value:
            yield rows.line_num, value


def _index(titles: Sequence[str], column: str, name: str) -> int:
    """Return which column is meant; upper and lower case count only where both are there."""
    plain = [title.strip() for title in titles]
    if column in plain:
        return plain.index(column)
    lower = [title.lower() for title in plain]
    if column.lower() in lower:
        return lower.index(column.lower())
    shown = _titles(titles)
    has = f"Its columns: {', '.join(shown)}." if shown else "Its first line has no titles."
    raise ListError(f"{name} has no column {column!r}. {has}")


def _separator(text: str) -> str:
    first, _, _ = text.partition("\n")
    return max(_SEPARATORS, key=first.count)


def _titles(cells: Sequence[str]) -> list[str]:
    """Return the titles in a first line; none if they are no titles: rows of a file without any may
    hold people's data."""
    titles = [title.strip().strip('"') for title in cells]
    are_titles = all(
        title.replace("_", " ").replace("-", " ").replace(" ", "").isalpha() and len(title) <= 40
        for title in titles
    )
    return titles if are_titles else []


def _lines(numbers: Sequence[int]) -> str:
    shown = ", ".join(str(number) for number in numbers[:SHOWN_LINES])
    more = len(numbers) - SHOWN_LINES
    word = "line" if len(numbers) == 1 else "lines"
    return f"{word} {shown}" + (f" and {more} more" if more > 0 else "")


GRACE_MS = 60_000  # what is this new may be on its way
NOT_ASKED_FOR = (
    "outside the time that was asked for. Set `prembly.logs.time_zone` to the zone of its times, or"
    ' `prembly.logs.parameters: {since: "", until: ""}` to ask for all times.'
)
_LONG_NUMBER = re.compile(r"\d(?:\W?\d){9,}")  # a BVN, a NIN, a phone's, an account's


class TypedDay(NamedTuple):
    """What was typed for `--day`: when a day begins; None: of each that is `incomplete`."""

    text: str
    day_ms: int | None

    def __str__(self) -> str:
        return self.text


def _typed(text: str) -> TypedDay | None:
    if text == "incomplete":
        return TypedDay(text, None)
    at_ms = -1
    with contextlib.suppress(OverflowError):
        at_ms = times.from_iso(text) if len(text) == len("2026-01-31") else -1
    return None if at_ms < 0 or at_ms % DAY_MS else TypedDay(text, at_ms)


@click.command()
@click.argument("file", required=False, type=click.File("rb"))
@click.option("--since", type=WHEN, help="Compare Prembly's log from then on: 2026-01-31, 7d.")
@click.option("--until", type=WHEN, help="Compare Prembly's log before then.")
@click.option(
    "--day",
    "typed",
    type=Typed("D", _typed, "not a day such as 2026-01-31"),
    help="Compare one day (UTC), and record whether it is complete: 2026-01-31. `incomplete`:"
    " yesterday, and each of the last seven days that is not complete yet.",
)
@click.option("--column", metavar="NAME", help="FILE is CSV; this column has the references.")
@click.option("--store", is_flag=True, help="Ask Prembly for each missing one, and store it.")
@click.option(
    "--endpoint",
    "endpoint_name",
    metavar="NAME",
    help="Store them for this endpoint (default: the first).",
)
@config_option
@json_option
def reconcile(
    config_path: Path,
    *,
    file: IO[bytes] | None,
    since: When | None,
    until: When | None,
    typed: TypedDay | None,
    column: str | None,
    store: bool,
    endpoint_name: str | None,
    as_json: bool,
) -> None:
    """Compares the events here with Prembly's log of verifications (default: --since 24h), or with
    the references in FILE, one a line (- is standard input), and lists those without an event.

    With --store Prembly is asked for each missing one, and its answer is stored as an event of type
    prembly.status, whose actions run. What is already stored is not asked for again, so a run that
    was interrupted continues with the next.

    Also listed: events that do not say how the verification ended (unsettled), that contradict
    themselves (doubted), or that differ from Prembly's answer (differs).

    Exit status 1: something is missing, or may be, or a day is not complete. 2: nothing is missing,
    but some lines of FILE have no reference. 75: Prembly could not be reached. 78: it refuses the
    API key.
    """
    is_of_log = not (since is None and until is None and typed is None)
    if file is not None and is_of_log:
        raise click.UsageError("--since, --until and --day can't be used with FILE.")
    if file is None and column is not None:
        raise click.UsageError("--column needs FILE.")
    if typed is not None and not (since is None and until is None):
        raise click.UsageError("--day can't be combined with --since or --until.")
    asks = file is None or store
    if asks:  # with the service's keys, and as its user, to whom the database belongs
        as_service.hand_over(config_path, file)
    settings = load_config(config_path, look_up_secrets=asks)
    endpoint = named("endpoint", endpoint_name, {each.name: each for each in settings.endpoints})
    if asks and not may_ask(settings):
        raise NotAllowedToAskError(None)
    references = read_references(file, _name(file), column) if file is not None else None
    keeps = typed is not None
    database = (open_to_change if store or keeps else open_to_read)(settings.database)
    clock = database.clock()
    windows: list[Window | None] = [None]
    if file is None:
        windows = [*_windows(database, since, until, typed, clock.now_ms())]
    logs.configure("auto", "critical")  # what went wrong is told in this command's words
    found: list[tuple[Reconciliation, Day | None]] = []
    for window in windows:
        work = Reconciliation(
            settings=settings,
            database=database,
            endpoint=endpoint.name,
            stores=store,
            clock=clock,
            window=window,
        )
        if references is not None:
            work.compare_list(references.found)
        day = _run(work, keeps=keeps, silent=as_json)
        found.append((work, day))
        if not as_json:
            _report(work)
        if day is not None and not as_json:
            print_sentence(day.sentence)
        if work.stopped_by is not None:
            break
    wrong_lines = references.wrong_lines if references else ()
    if as_json:
        told = [_as_json(*each, wrong_lines) for each in found]
        print_json({"days": told} if keeps else told[0])
    elif not found:
        click.echo(f"Each of the last {days.NIGHTS} days is complete.")
    complaint = references.complaint if references else None
    if complaint is not None:
        click.echo(f"{complaint} They were left out; the others were compared.", err=True)
    _end(found)
    if complaint is not None:
        raise SystemExit(2)


def _run(work: Reconciliation, *, keeps: bool, silent: bool) -> Day | None:
    """Find and ask what there is. Return the day, if it `keeps` what was found of it."""
    with progress(silent=silent) as shown:
        work.show = showing(shown)
        try:
            asyncio.run(work.run())
        except KeyboardInterrupt:
            work.stopped_by = PremblydError("Interrupted. The next run continues from here.")
            return None
    day, window = None, work.window
    if keeps and window is not None:
        try:
            day = days.keep(work, window.since_ms)
        except PremblydError as error:  # what was found before that is told all the same
            work.stopped_by = work.stopped_by or error
        if day is not None and day.complete:
            window = days.with_complete_days(work.database, window)
    work.mark_downtimes(window)
    return day


def _end(found: Sequence[tuple[Reconciliation, Day | None]]) -> None:
    """End as what was found says."""
    for work, _ in found:
        if work.stopped_by is not None:
            raise work.stopped_by
    if any(
        work.missing or work.unsure or (day is not None and day.needs_somebody)
        for work, day in found
    ):
        raise SystemExit(1)


def _windows(
    database: Database,
    since: When | None,
    until: When | None,
    typed: TypedDay | None,
    now_ms: int,
) -> Iterator[Window]:
    if typed is None:
        until_ms = now_ms - GRACE_MS if until is None else min(until.by(now_ms), now_ms)
        since_ms = now_ms - DAY_MS if since is None else since.by(now_ms)
        if since_ms >= until_ms:
            raise click.UsageError("--since should be before --until, and more than a minute ago.")
        yield Window(since_ms=since_ms, until_ms=until_ms)
        return
    chosen = days.due(database, now_ms) if typed.day_ms is None else [typed.day_ms]
    for day_ms in chosen:
        until_ms = min(day_ms + DAY_MS, now_ms - GRACE_MS)
        if day_ms >= until_ms:
            raise click.UsageError("--day is in the future.")
        yield Window(since_ms=day_ms, until_ms=until_ms)


def _name(file: IO[bytes]) -> str:
    name = str(getattr(file, "name", "-"))
    return "standard input" if name in ("-", "<stdin>") else name


def _report(work: Reconciliation) -> None:
    if work.window is not None and work.log.pages:
        since, until = (times.for_people(ms) for ms in (work.window.since_ms, work.window.until_ms))
        click.echo(
            f"Prembly's log from {since} to {until} UTC has"
            f" {counted(work.compared, 'verification')} that ended"
            f" ({counted(work.log.pages, 'page')})."
        )
    for what, count in (
        ("Not ended yet, so not expected", work.open),
        ("Without an id, so left out", work.log.without_id),
        ("Of another time, so left out", work.log.outside),
        ("Erased, so not expected", work.erased),
        ("So old that `retention` has deleted the references, so not expected", work.too_old),
        ("Without a result, at Prembly too", work.given_up),
        ("Events that can't be compared: neither a reference nor a session", work.nameless),
    ):
        if count:
            click.echo(f"{what}: {count}.")
    if work.log.not_asked_for:
        click.echo(f"{counted(work.log.not_asked_for, 'entry', 'entries')} {NOT_ASKED_FOR}")
    if work.unsure:
        click.echo(f"Not sure: {work.unsure}")
    if work.stored:
        events = counted(len(work.stored), "event")
        click.echo(f"Stored missed webhooks: {events}. A running daemon runs their actions now.")
    missing = work.missing
    if not missing and work.stopped_by is None and not work.unsure:
        click.echo(
            "Nothing to compare: Prembly's log has nothing for this period."
            if work.is_empty
            else "Nothing is missing."
        )
    if work.listed:
        left = counted(len(work.listed), "verification")
        click.echo(
            f"Without a result: {left} of {work.compared}. With an API key, Prembly could be asked."
        )
        _print_absent(work, work.listed)
    if not missing:
        return
    others = [
        f"{count} of them {words}"
        for fate, words in _WORDS.items()
        if (count := sum(each.fate is fate for each in missing))
    ]
    click.echo(f"Missing: {', '.join([f'{len(missing)} of {work.compared}', *others])}.")
    _print_absent(work, missing)
    if not work.stores:
        click.echo("--store asks Prembly for each of them.")


_WORDS = {
    Fate.LEFT_OPEN: "unsettled: an event came, but none says how it ended",
    Fate.DOUBTED: "doubted: an event contradicts itself",
    Fate.DIFFERS: "different: Prembly says something else than the record",
}


def _print_absent(work: Reconciliation, absent: Sequence[Absent]) -> None:
    print_rows(OF_LIST if work.window is None else OF_LOG, absent, empty="")


def _as_json(work: Reconciliation, day: Day | None, wrong_lines: Sequence[int]) -> dict[str, Any]:
    window = work.window
    return {
        "since_ms": window.since_ms if window else None,
        "until_ms": window.until_ms if window else None,
        "compared": work.compared,
        "not_ended": work.open,
        "without_id": work.log.without_id,
        "of_another_time": work.log.outside,
        "missing": len(work.missing),
        "unsettled": len(work.left_open),
        "doubted": sum(each.fate is Fate.DOUBTED for each in work.absent),
        "differs": sum(each.fate is Fate.DIFFERS for each in work.absent),
        "given_up": work.given_up,
        "nameless": work.nameless,
        "stored": len(work.stored),
        "wrong_lines": list(wrong_lines),
        "error": str(work.stopped_by) if work.stopped_by else None,
        "unsure": work.unsure,
        "absent": [
            {
                "line": each.line,
                "reference": _shown(each),
                "at_ms": each.at_ms,
                "response_code": each.code,
                "status": each.status,
                "fate": str(each.fate),
                "why": each.error,
                "event_id": each.event_id,
            }
            for each in work.absent
        ],
        "erased": work.erased,
        "too_old": work.too_old,
        "day": day,
    }


def _why(each: Absent) -> str:
    return each.error or ("" if each.fate == "missing" else str(each.fate))


def _shown(each: Absent) -> str:
    """Return a reference as it may be seen. In a log, or in a wrong column, a person's number or
    name may stand instead: then a digest of it."""
    from premblyd.ground.privacy import is_prembly_id, safe_id

    text = each.reference
    is_id = is_prembly_id(text) or (is_askable(text) and not _LONG_NUMBER.search(text))
    return clean(text if is_id else safe_id(text))


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
