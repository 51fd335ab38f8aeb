"""premblyd reconcile: what it is asked for, and how it prints what was found. record/reconciling.py
does the work."""

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import click

from premblyd import times
from premblyd.ask.log import Window
from premblyd.cli import as_service, config_option, json_option
from premblyd.cli.certify import made
from premblyd.cli.common import WHEN, open_to_change, open_to_read
from premblyd.cli.printing import Column, clean, print_json, print_table, progress, showing
from premblyd.cli.references import read_references
from premblyd.config.load import load_config
from premblyd.config.models import named
from premblyd.config.values import When
from premblyd.errors import NotAllowedToAskError, PremblydError
from premblyd.logs import output
from premblyd.prembly.answers import is_askable
from premblyd.record.certificates import stored
from premblyd.record.certificates.summary import NOT_ASKED_FOR, Summary
from premblyd.record.reconciling import Absent, Fate, Reconciliation
from premblyd.times import DAY_MS
from premblyd.words import counted

GRACE_MS = 60_000  # what is this new may be on its way
CERTIFIED_MS = 3 * DAY_MS  # as the timer has it: a day has at most two that are not whole
_LONG_NUMBER = re.compile(r"\d(?:\W?\d){9,}")  # a BVN, a NIN, a phone's, an account's
_REFERENCE = Column(name="reference", kind="reference")
_WHY = Column(name="why it is missing", rank=3)
OF_LOG = (
    _REFERENCE,
    Column(name="at (UTC)", kind="time"),
    Column(name="code", rank=1, kind="whole"),
    Column(name="status", rank=2),
    _WHY,
)
OF_LIST = (Column(name="line", kind="whole"), _REFERENCE, _WHY)


@click.command()
@click.argument("file", required=False, type=click.File("rb"))
@click.option("--since", type=WHEN, help="Of Prembly's log since then: 2026-01-31, 7d.")
@click.option("--until", type=WHEN, help="Of Prembly's log before then.")
@click.option("--column", metavar="NAME", help="FILE is CSV, and this column has the references.")
@click.option("--store", is_flag=True, help="Ask for each that is missing, and store it.")
@click.option(
    "--certify",
    "certifies",
    is_flag=True,
    help="Then certify each whole day of that time that is not certified to be complete yet.",
)
@click.option(
    "--endpoint",
    "endpoint_name",
    metavar="NAME",
    help="Store it for this endpoint (default: the first).",
)
@config_option
@json_option
def reconcile(
    config_path: Path,
    *,
    file: IO[bytes] | None,
    since: When | None,
    until: When | None,
    column: str | None,
    store: bool,
    certifies: bool,
    endpoint_name: str | None,
    as_json: bool,
) -> None:
    """Without FILE, Prembly's log of verifications is asked (default: --since 24h; with --certify
    3d). FILE has references, one a line; - is standard input. What has no event here is listed.

    With --store Prembly is asked for each of them, and its answer is stored as an event of type
    prembly.status, whose actions run. What is stored already is not asked for again, so a run that
    was interrupted goes on with the next.

    Also listed is what came and does not say how it ended (unsettled), what says it twice and
    differently (doubted), and what Prembly says otherwise (differs).

    Exit status 1: something is still missing, or it is not sure that nothing is. 2: nothing is, but
    lines of FILE hold no reference. 75: Prembly could not be reached. 78: it refuses the API key.
    """
    _check_use(file, column, since, until)
    if file is not None and certifies:
        raise click.UsageError("--certify is for Prembly's log, not for FILE.")
    asks = file is None or store
    if asks:  # with the service's keys, and as its user, to whom the database belongs
        as_service.hand_over(config_path, file)
    settings = load_config(config_path, look_up_secrets=asks)
    endpoint = named("endpoint", endpoint_name, {each.name: each for each in settings.endpoints})
    if asks and (settings.prembly is None or settings.prembly.api_key is None):
        raise NotAllowedToAskError(None)
    references = read_references(file, _name(file), column) if file is not None else None
    complaint = references.complaint if references else None
    database = (open_to_change if store or certifies else open_to_read)(settings.database)
    clock = database.clock()
    work = Reconciliation(
        settings=settings,
        database=database,
        endpoint=endpoint.name,
        stores=store,
        clock=clock,
    )
    output.configure("auto", "critical")  # what went wrong is told in this command's words
    with progress(silent=as_json) as shown:
        work.show = showing(shown)
        try:
            if references is not None:
                work.compare_list(references.found)
            else:
                work.window = _window(since, until, clock.now_ms(), certifies=certifies)
            asyncio.run(work.run())
        except KeyboardInterrupt:
            work.was_interrupted = True
            work.stopped_by = PremblydError("Interrupted. The next run goes on from here.")
    work.mark_downtimes()
    certified = _certify(work, silent=as_json) if certifies else []
    wrong_lines = references.wrong_lines if references else ()
    _report_json(work, wrong_lines, certified) if as_json else _report(work, certified)
    if complaint is not None:
        click.echo(f"{complaint} Left out; the others were compared.", err=True)
    if work.stopped_by is not None:
        raise work.stopped_by
    if work.missing or work.unsure:
        raise SystemExit(1)
    if complaint is not None:
        raise SystemExit(2)


def _check_use(
    file: IO[bytes] | None, column: str | None, since: When | None, until: When | None
) -> None:
    if file is not None and (since is not None or until is not None):
        raise click.UsageError("--since and --until are for Prembly's log, not for FILE.")
    if file is None and column is not None:
        raise click.UsageError("--column goes with FILE.")


def _window(since: When | None, until: When | None, now_ms: int, *, certifies: bool) -> Window:
    until_ms = now_ms - GRACE_MS if until is None else min(until.by(now_ms), now_ms)
    ago_ms = CERTIFIED_MS if certifies else DAY_MS
    since_ms = now_ms - ago_ms if since is None else since.by(now_ms)
    if since_ms >= until_ms:
        raise click.UsageError("--since should be before --until, and more than a minute ago.")
    window = Window(since_ms=since_ms, until_ms=until_ms)
    if certifies and not _whole_days(window):
        raise click.UsageError(
            "--certify takes a whole day of UTC between --since and --until, such as --since 3d."
        )
    return window


def _whole_days(window: Window) -> list[int]:
    first = -(-window.since_ms // DAY_MS)
    return [day * DAY_MS for day in range(first, window.until_ms // DAY_MS)]


def _name(file: IO[bytes]) -> str:
    name = str(getattr(file, "name", "-"))
    return "standard input" if name in ("-", "<stdin>") else name


def _certify(work: Reconciliation, *, silent: bool) -> list[Summary]:
    """Certify the days that lie within the time that was looked at, and are not certified to be
    complete yet. One that an operator interrupted has certified nothing."""
    window = work.window
    if window is None or work.was_interrupted:
        return []
    days, certified = _whole_days(window), list[Summary]()
    try:
        done = stored.complete_days(work.database, days)
        for day in days:
            if day not in done:
                found, _ = made(work.settings, work.database, day, work.clock, silent=silent)
                certified.append(found.summary)
    except PremblydError as error:  # what was found before that is told all the same
        work.stopped_by = work.stopped_by or error
    return certified


def _report(work: Reconciliation, certified: Sequence[Summary]) -> None:
    _report_found(work)
    for each in certified:
        click.echo(each.statement)


def _report_found(work: Reconciliation) -> None:
    if work.window is not None and work.pages:
        since, until = (times.for_people(ms) for ms in (work.window.since_ms, work.window.until_ms))
        click.echo(
            f"Prembly's log from {since} to {until} UTC has"
            f" {counted(work.compared, 'verification')} that ended"
            f" ({counted(work.pages, 'page')})."
        )
    for what, count in (
        ("Not ended yet, and so not expected", work.open),
        ("Without an id, and so left out", work.without_id),
        ("Of another time, and so left out", work.outside),
        ("Erased, and so not expected", work.erased),
        ("Older than `retention` keeps what names a person, and so not expected", work.too_old),
        ("Without a result, of which Prembly says no more when it is asked", work.given_up),
        ("Events that can't be compared: neither a reference nor a session", work.nameless),
    ):
        if count:
            click.echo(f"{what}: {count}.")
    if work.not_asked_for:
        click.echo(f"{counted(work.not_asked_for, 'entry', 'entries')} {NOT_ASKED_FOR}")
    if work.unsure:
        click.echo(f"Not sure: {work.unsure}")
    if work.stored:
        events = counted(len(work.stored), "event")
        click.echo(f"Stored what never came: {events}. A running daemon runs their actions now.")
    missing = work.missing
    if not missing and work.stopped_by is None and not work.unsure:
        click.echo(
            "Nothing to compare: Prembly's log has nothing of this time."
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
    Fate.LEFT_OPEN: "unsettled: an event came, and none says how it ended",
    Fate.DOUBTED: "doubted: an event says it twice and differently",
    Fate.DIFFERS: "different: Prembly says something else than the record",
}


def _print_absent(work: Reconciliation, absent: Sequence[Absent]) -> None:
    if work.window is None:
        print_table(OF_LIST, [(each.line, _shown(each), _why(each)) for each in absent], empty="")
        return
    rows = [
        (_shown(each), times.for_people(each.at_ms), each.code, each.status, _why(each))
        for each in absent
    ]
    print_table(OF_LOG, rows, empty="")


def _report_json(
    work: Reconciliation, wrong_lines: Sequence[int], certified: Sequence[Summary]
) -> None:
    window = work.window
    print_json(
        {
            "since_ms": window.since_ms if window else None,
            "until_ms": window.until_ms if window else None,
            "compared": work.compared,
            "not_ended": work.open,
            "without_id": work.without_id,
            "of_another_time": work.outside,
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
                    "code": each.code,
                    "status": each.status,
                    "fate": str(each.fate),
                    "why": each.error,
                    "event_id": each.event_id,
                }
                for each in work.absent
            ],
            "erased": work.erased,
            "too_old": work.too_old,
            "certified": [{"day": each.day, "complete": each.complete} for each in certified],
        }
    )


def _why(each: Absent) -> str:
    return each.error or ("" if each.fate == "missing" else str(each.fate))


def _shown(each: Absent) -> str:
    """Return a reference as it may be seen. In a log, or in a wrong column, a person's number or
    name may stand instead: then a digest of it."""
    from premblyd.privacy import is_prembly_id, safe_id

    text = each.reference
    is_id = is_prembly_id(text) or (is_askable(text) and not _LONG_NUMBER.search(text))
    return clean(text if is_id else safe_id(text))
