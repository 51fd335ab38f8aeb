"""premblyd reconcile"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from premblyd import times
from premblyd.cli.common import When, config_option, json_option, until_end
from premblyd.cli.printing import Column, clean, console, counted, print_json, print_table
from premblyd.errors import LacksRightsError, NotAllowedToAskError, PremblydError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from premblyd.config.models import Config
    from premblyd.inquiry.logreading import Window
    from premblyd.inquiry.reconciling import Absent
    from premblyd.record.reconciling import OwnRecord

DAY_MS = 86_400_000
GRACE_MS = 60_000  # what is this new may be on its way
COLUMNS = (
    Column(name="reference", kind="reference"),
    Column(name="at (UTC)", kind="time"),
    Column(name="code", rank=1, kind="whole"),
    Column(name="status", rank=2),
    Column(name="why it is missing", rank=3),
)


@click.command()
@click.argument("file", required=False, type=click.File("rb"))
@click.option(
    "--since", "since_ms", type=When(), help="Of Prembly's log since then: 2026-01-31, 7d."
)
@click.option("--until", "until_ms", type=When(), help="Of Prembly's log before then.")
@click.option("--column", metavar="NAME", help="FILE is CSV, and this column has the references.")
@click.option("--store", is_flag=True, help="Ask for each that is missing, and store it.")
@click.option(
    "--endpoint", "endpoint_name", help="Store it for this endpoint (default: the first)."
)
@config_option
@json_option
def reconcile(
    config_path: Path,
    *,
    file: IO[bytes] | None,
    since_ms: int | None,
    until_ms: int | None,
    column: str | None,
    store: bool,
    endpoint_name: str | None,
    as_json: bool,
) -> None:
    """Without FILE, Prembly's log of verifications is asked (default: --since 24h). FILE has
    references, one a line; - is standard input. What has no event here is listed.

    With --store Prembly is asked for each of them, and its answer is stored as an event of type
    prembly.status, whose actions run. What is stored already is not asked for again, so a run that
    was interrupted goes on with the next.

    Exit status 1: something is still missing. 75: Prembly could not be reached. 78: it refuses
    the API key.
    """
    from premblyd.cli import as_service
    from premblyd.cli.references import read_references
    from premblyd.config.load import load_config
    from premblyd.record.reconciling import OwnRecord
    from premblyd.store.sqlite.opening import connect_operator, connect_read_only

    _check_use(file, column, since_ms, until_ms)
    asks = file is None or store
    if asks and as_service.is_for_service(config_path):
        # With the service's keys, and as its user, to whom the database belongs.
        own = click.get_current_context().params
        status = as_service.run(["reconcile", *_arguments(own)], stdin=file)
        if status is not None:
            raise SystemExit(status)
    settings = load_config(config_path, look_up_secrets=asks)
    endpoint = _endpoint(settings, endpoint_name)
    if asks and (settings.prembly is None or settings.prembly.api_key is None):
        raise NotAllowedToAskError(None)
    references = read_references(file, _name(file), column) if file is not None else None
    connect = connect_operator if store else connect_read_only
    record = OwnRecord(until_end(connect(settings.database_path)))
    work = Work(settings=settings, record=record, endpoint=endpoint, stores=store)
    with _progress(silent=as_json) as progress:
        work.progress = progress
        try:
            if references is not None:
                work.compare_list(references)
            else:
                work.window = _window(since_ms, until_ms)
            asyncio.run(work.run())
        except KeyboardInterrupt:
            work.stopped_by = PremblydError("Interrupted. The next run goes on from here.")
    work.mark_downtimes()
    _report_json(work) if as_json else _report(work)
    if work.stopped_by is not None:
        raise work.stopped_by
    if work.missing:
        raise SystemExit(1)


def _check_use(
    file: IO[bytes] | None, column: str | None, since_ms: int | None, until_ms: int | None
) -> None:
    if file is not None and (since_ms is not None or until_ms is not None):
        raise click.UsageError("--since and --until are for Prembly's log, not for FILE.")
    if file is None and column is not None:
        raise click.UsageError("--column goes with FILE.")


def _arguments(params: dict[str, Any]) -> Iterator[str]:
    """Yield this command's arguments again; a file comes as standard input."""
    for name, option in (("since_ms", "--since"), ("until_ms", "--until")):
        if params[name] is not None:
            yield f"{option}={times.iso(params[name])}"
    for name, option in (("column", "--column"), ("endpoint_name", "--endpoint")):
        if params[name] is not None:
            yield f"{option}={params[name]}"
    yield from (
        f"--{name}" for name, given in (("store", "store"), ("json", "as_json")) if params[given]
    )
    if params["file"] is not None:
        yield "-"


def _endpoint(settings: "Config", name: str | None) -> str:
    names = [endpoint.name for endpoint in settings.endpoints]
    if name is not None and name not in names:
        raise PremblydError(
            f"There is no endpoint {name}; the configuration has {', '.join(names)}."
        )
    return name or names[0]


def _window(since_ms: int | None, until_ms: int | None) -> "Window":
    from premblyd.inquiry.logreading import Window

    now_ms = times.now_ms()
    until_ms = min(until_ms, now_ms) if until_ms is not None else now_ms - GRACE_MS
    since_ms = since_ms if since_ms is not None else now_ms - DAY_MS
    if since_ms >= until_ms:
        raise click.UsageError("--since should be before --until, and more than a minute ago.")
    return Window(since_ms=since_ms, until_ms=until_ms)


def _name(file: IO[bytes]) -> str:
    name = str(getattr(file, "name", "-"))
    return "standard input" if name in ("-", "<stdin>") else name


@dataclass(slots=True, kw_only=True)
class Work:
    """One run: what is compared with the record, what is absent, and what became of it."""

    settings: "Config"
    record: "OwnRecord"
    endpoint: str
    stores: bool
    window: "Window | None" = None
    progress: "Progress | None" = None
    compared: int = 0
    pages: int = 0
    open: int = 0  # verifications that have not ended, as the log says
    without_id: int = 0
    absent: "list[Absent]" = field(default_factory=list)
    stopped_by: PremblydError | None = None
    _is_whole: bool = False  # all of the log was read and compared

    @property
    def missing(self) -> "list[Absent]":
        return [each for each in self.absent if each.is_missing]

    @property
    def stored(self) -> "list[Absent]":
        return [each for each in self.absent if not each.is_missing]

    def compare_list(self, references: Sequence[str]) -> None:
        """Find which references of a list have no event."""
        from premblyd.inquiry.reconciling import Absent

        self.compared = len(references)
        self._keep_absent([Absent(ids=(reference,)) for reference in references])

    async def run(self) -> None:
        """Ask what there is to ask. What stops that early is `stopped_by`."""
        from premblyd.clock import Clock
        from premblyd.inquiry.client import Inquirer
        from premblyd.logs import output

        if self.window is None and not self.stores:
            return
        output.configure("auto", "critical")  # what went wrong is told in this command's words
        with contextlib.closing(Inquirer(Clock())) as inquirer:
            inquirer.configure(self.settings.prembly)
            try:
                if self.window is not None:
                    await self._read_log(inquirer, self.window)
                if self.stores and self.absent:
                    await self._ask_for_absent(inquirer)
            except PremblydError as error:
                self.stopped_by = error

    async def _read_log(self, inquirer: Any, window: "Window") -> None:
        from premblyd.inquiry.logreading import read_log
        from premblyd.inquiry.reconciling import Absent, fetching

        question = self.settings.prembly.logs  # type: ignore[union-attr]  # there is a key
        advance = self._showing("reading the log")
        log = await read_log(
            question,
            window,
            fetching(inquirer, question),
            told=lambda log: advance(log.pages, log.total_pages),
        )
        self.pages, self.without_id = log.pages, log.without_id
        ended = [entry for entry in log.entries.values() if not entry.is_open]
        self.open = len(log.entries) - len(ended)
        self.compared = len(ended)
        self._keep_absent([Absent.of(entry) for entry in ended])
        self._is_whole = True

    def _keep_absent(self, candidates: "list[Absent]") -> None:
        """Keep those that the record has no event of."""
        from premblyd.inquiry.reconciling import is_session

        ids = {name for each in candidates for name in each.ids}
        have = self.record.known_ids(ids)
        left = [each for each in candidates if have.isdisjoint(each.ids)]
        sessions = {name for each in left for name in each.ids if is_session(name)}
        since_ms = self.window.since_ms - DAY_MS if self.window else None
        have = self.record.known_sessions(sessions, since_ms=since_ms)
        self.absent = [each for each in left if have.isdisjoint(each.ids)]

    async def _ask_for_absent(self, inquirer: Any) -> None:
        from premblyd.inquiry.reconciling import Reconciler
        from premblyd.inquiry.storing import Storing

        advance = self._showing("asking")
        done = 0

        def told(_: "Absent") -> None:
            nonlocal done
            done += 1
            advance(done, len(self.absent))

        reconciler = Reconciler(
            inquirer,
            Storing(self.settings),
            self.record,
            endpoint=self.endpoint,
            now_ms=times.now_ms,
        )
        await reconciler.ask_for(self.absent, told)

    def _showing(self, what: str) -> Callable[[int, int | None], None]:
        """Return what shows how far this is."""
        progress = self.progress
        if progress is None:
            return lambda done, total: None
        task: TaskID = progress.add_task(what, total=None)
        return lambda done, total: progress.update(task, completed=done, total=total)

    def mark_downtimes(self) -> None:
        """Keep that nothing is missing of the downtimes that were looked at, if this user may."""
        from premblyd.record.reconciling import OwnRecord
        from premblyd.store.sqlite.opening import connect_operator

        window = self.window
        if window is None or not self._is_whole or self.missing or self.stopped_by:
            return
        with (
            contextlib.suppress(LacksRightsError),
            contextlib.closing(connect_operator(self.settings.database_path)) as database,
        ):
            OwnRecord(database).mend_downtimes(
                since_ms=window.since_ms, until_ms=window.until_ms, now_ms=times.now_ms()
            )


def _progress(*, silent: bool) -> "Progress":
    from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

    out = console(stderr=True)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=out, disable=silent or not out.is_terminal, transient=True)


def _report(work: Work) -> None:
    if work.window is not None and work.pages:
        since, until = (times.for_people(ms) for ms in (work.window.since_ms, work.window.until_ms))
        click.echo(
            f"Prembly's log from {since} to {until} UTC has"
            f" {counted(work.compared, 'verification', 'verifications')} that ended"
            f" ({counted(work.pages, 'page', 'pages')})."
        )
    if work.open:
        click.echo(f"Not ended yet, and so not expected: {work.open}.")
    if work.without_id:
        click.echo(f"Without an id, and so left out: {work.without_id}.")
    if work.stored:
        events = counted(len(work.stored), "event", "events")
        click.echo(f"Stored what never came: {events}. A running daemon runs their actions now.")
    missing = work.missing
    if not missing:
        if work.stopped_by is None:
            click.echo("Nothing is missing.")
        return
    click.echo(f"Missing: {len(missing)} of {work.compared}.")
    rows = [
        (_shown(each), times.for_people(each.at_ms), each.code, each.status, _why(each))
        for each in missing
    ]
    print_table(COLUMNS, rows, empty="")
    if not work.stores:
        click.echo("--store asks Prembly for each of them.")


def _report_json(work: Work) -> None:
    window = work.window
    print_json(
        {
            "since_ms": window.since_ms if window else None,
            "until_ms": window.until_ms if window else None,
            "compared": work.compared,
            "not_ended": work.open,
            "without_id": work.without_id,
            "missing": len(work.missing),
            "stored": len(work.stored),
            "error": str(work.stopped_by) if work.stopped_by else None,
            "absent": [
                {
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
        }
    )


def _why(each: "Absent") -> str:
    return each.error or ("" if each.fate == "missing" else str(each.fate))


def _shown(each: "Absent") -> str:
    """Return a reference as it may be seen. In a log, or in a wrong column, there may stand a
    person's number instead."""
    from premblyd.privacy.identifiers import is_reference, safe_id

    reference = each.reference
    return clean(reference if is_reference(reference) else safe_id(reference))
