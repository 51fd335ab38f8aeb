"""premblyd explain, premblyd try and premblyd rehearse"""

import asyncio
import contextlib
import dataclasses
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, starmap
from pathlib import Path
from typing import IO, Any

import click

from premblyd.cli import as_service, config_option, json_option
from premblyd.cli.common import (
    ROW_ID,
    WHEN,
    database_of,
    open_to_read,
    record_options,
    sender_options,
    settings_if_valid,
)
from premblyd.cli.printing import Column, bold, clean, console, print_json, print_rows, progress
from premblyd.config.hooks import Hook
from premblyd.config.load import load_config
from premblyd.config.models import Config, named
from premblyd.config.routing import Routing
from premblyd.config.values import When
from premblyd.feature import added
from premblyd.features.tryout import deciding, explaining
from premblyd.features.tryout.explaining import Explanation
from premblyd.features.tryout.rehearsal import Difference, Figure, Figures, Rehearsed, notes
from premblyd.features.tryout.rehearsal import rehearse as play
from premblyd.ground import logs, times
from premblyd.ground.errors import NotFoundError, PremblydError
from premblyd.ground.system import hide_this_process
from premblyd.ground.words import counted, number
from premblyd.queue.jobs import Result
from premblyd.record import standing
from premblyd.run.invocation import Invocation
from premblyd.run.kinds import Runners
from premblyd.run.process import Children
from premblyd.store.connections import connect_read_only

ALL_THAT_IS_KNOWN = (
    "The hook ended with exit status 0. Some programs, such as Debian's mail, do that even if"
    " nothing was sent: check that it arrived."
)


@click.command()
@click.argument("file", type=click.File("rb"))
@sender_options
@config_option
@json_option
def explain(
    config_path: Path,
    *,
    file: IO[bytes],
    endpoint_name: str | None,
    key_name: str | None,
    as_json: bool,
) -> None:
    """FILE holds a webhook's body; - is standard input. Nothing is started, sent or stored.

    Secrets are masked; the numbers of the event and delivery are 0 here.
    """
    settings = load_config(config_path, look_up_secrets=False)
    webhook = explaining.webhook_of(
        settings, file.read(), times.now_ms(), endpoint_name=endpoint_name, key_name=key_name
    )
    shown = explaining.explain(settings, webhook, _paused(settings))
    if as_json:
        print_json(shown.as_json())
    else:
        _print(shown)


def _paused(settings: Config) -> dict[str, str]:
    """Return what there is to say of the paused actions; nothing where the record can't be read."""
    with (
        contextlib.suppress(PremblydError),  # no database yet, or none that this user may read
        contextlib.closing(connect_read_only(settings.database)) as database,
    ):
        return standing.at_rest_in_words(database, database.now_ms())
    return {}


def _print(shown: Explanation) -> None:
    click.echo(f"{bold('Verdict')} (endpoint {shown.endpoint})")
    for name, value in shown.verdict.items():
        empty = "missing" if name == "response_code" else "-"
        click.echo(f"  {name:<20} {empty if value in (None, '') else clean(value)}")
    if not shown.runs:
        click.echo("\nNo action: the event would be stored, and nothing would run.")
    for action, preview in shown.runs.items():
        click.echo(f"\n{bold(action)}")
        for line in preview.lines:
            click.echo(f"  {clean(line)}")
    if shown.runs_not:
        click.echo(f"\n{bold('Would not run')}")
    for action, reason in shown.runs_not.items():
        click.echo(f"  {action}: {clean(reason)}")


def _tried_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that try hooks of features."""
    for name, about, _ in added("message", "TRIED"):
        command = click.option(f"--{name}", metavar="NAME", help=about)(command)
    return command


@click.command("try")
@click.argument("action", required=False)
@click.argument("file", type=click.File("rb"), required=False)
@_tried_options
@sender_options
@config_option
@json_option
def try_(
    config_path: Path,
    *,
    action: str | None,
    file: IO[bytes] | None,
    endpoint_name: str | None,
    key_name: str | None,
    as_json: bool,
    **others: str | None,
) -> None:
    """Runs the hook of ACTION once, for the webhook body in FILE (- is standard input), or with
    one of the options the hook that it names. It really runs: as you, or for root as the service
    would run it. Prembly is not asked, even with `confirm`. Nothing is stored, and nothing is
    retried.

    Exit status 0: it succeeded. 1: it failed.
    """
    chosen = [option for option, name in others.items() if name is not None]
    if (action is not None, file is not None, len(chosen)) not in ((1, 1, 0), (0, 0, 1)):
        ways = ["Give ACTION and FILE", *(f"or --{option} NAME" for option in others)]
        raise click.UsageError(", ".join(ways) + ".")
    # Not as root: as the service runs it, with its keys and its sandbox.
    as_service.hand_over(config_path, file)
    hide_this_process()
    logs.configure("auto", "critical")  # this command says itself what became of it
    settings = load_config(config_path)
    now_ms = times.now_ms()
    if chosen:
        make: dict[str, Any] = {option: make for option, _, make in added("message", "TRIED")}
        name = others[chosen[0]] or ""
        hook, invocation = make[chosen[0]](settings, name, now_ms)
    else:
        body = file.read() if file is not None else b""
        own = named("action", action, {each.name: each for each in settings.actions})
        webhook = explaining.webhook_of(
            settings, body, now_ms, endpoint_name=endpoint_name, key_name=key_name
        )
        name, hook = own.name, own.hook
        invocation = explaining.invocation_of(own, webhook)
        if (why_not := Routing(settings.actions).why_not(own, webhook)) is not None:
            click.echo(f"note: the daemon would not run it for this: {why_not}", err=True)
    result = asyncio.run(_run(settings, hook, invocation))
    took_ms = times.now_ms() - now_ms
    _print_result(name, result, took_ms, is_alert=bool(chosen), as_json=as_json)
    raise SystemExit(0 if result.outcome == "succeeded" else 1)


async def _run(settings: Config, hook: Hook, invocation: Invocation) -> Result:
    runners = Runners.make(Children())
    try:
        runners.configure(settings)
        return await runners.run(hook, invocation)
    finally:
        runners.interrupt()  # at Ctrl-C: what still runs is ended, and not waited for
        runners.close()


def _print_result(
    name: str, result: Result, took_ms: int, *, is_alert: bool, as_json: bool
) -> None:
    if as_json:
        shown = dataclasses.asdict(result)
        names = "outcome exit_code http_status error output output_truncated".split()
        print_json({"name": name, **{each: shown[each] for each in names}, "duration_ms": took_ms})
        return
    error = f": {result.error}" if result.error else ""
    answer = f" (HTTP {result.http_status})" if result.http_status and not error else ""
    click.echo(clean(f"{name} {result.outcome} after {took_ms} ms{error}{answer}"))
    for line in (result.output or "").splitlines():
        click.echo(f"  | {clean(line)}")
    if result.output_truncated:
        click.echo("  | … the rest was not kept")
    if is_alert and result.exit_code == 0:
        click.echo(ALL_THAT_IS_KNOWN)


DEFAULT = When.read("30d")
DIFFERS = 3
MOST_SHOWN = 8  # numbers of a figure
WORDS = {
    Difference.NONE: "same",
    Difference.MORE: "more",
    Difference.FEWER: "fewer",
    Difference.OTHERWISE: "otherwise",
    Difference.UNSAID: "can't say",
}


def _column(of: Difference, words: str) -> Column:
    return Column(words, lambda row: number(row[1][of]), kind="whole")


COLUMNS = (Column("action", lambda row: row[0]), *starmap(_column, WORDS.items()))


@click.command()
@click.argument("new", metavar="NEW.yaml", type=click.Path(readable=False, path_type=Path))
@click.option(
    "--since",
    type=WHEN,
    default=DEFAULT.text,
    show_default=True,
    help="The events from then on: 2026-01-31, 12h, 30d.",
)
@click.option("--event", "event_id", metavar="N", type=ROW_ID, help="Show only this event.")
@record_options
def rehearse(
    config_path: Path,
    *,
    new: Path,
    since: When,
    event_id: int | None,
    database: str | None,
    as_json: bool,
) -> None:
    """Shows for which events more, fewer or other hooks would have run with NEW.yaml. Nothing is
    run, sent or stored, Prembly is not asked, and no hook's secret is read.

    It compares with the recorded deliveries. "Can't say": the event was erased, or Prembly would be
    asked (`confirm`) and has not answered.

    Exit status 0: nothing differs. 3: something differs, or can't be said. 78: NEW.yaml has
    mistakes.
    """
    rehearsed = load_config(new, look_up_secrets=False)
    record = open_to_read(database_of(config_path, database))
    present = settings_if_valid(config_path, database)
    since_ms = since.by(record.now_ms())
    span = deciding.span(record, since_ms, event_id)
    for note in notes(rehearsed, present):
        click.echo(f"note: {note}", err=True)
    figures, last = Figures(), None
    with progress(silent=as_json) as bar:
        task = bar.add_task("Rehearsing", total=max(0, span.last_id - span.first_id + 1))
        for event in play(record, rehearsed, present, span):
            bar.update(task, completed=event.event_id - span.first_id + 1)
            figures.add(event)
            last = event
    if event_id is None:
        exact = {"new": str(new), "since_ms": since_ms, **figures.as_json()}
        print_json(exact) if as_json else _print_rehearsal(figures, new, since_ms, rehearsed)
        raise SystemExit(DIFFERS if figures.differing else 0)
    if last is None or last.event_id != event_id:
        since_text = times.for_people(since_ms)[:-3]
        raise NotFoundError(
            f"There is no event {event_id} since {since_text} UTC. Try an earlier `--since`."
        )
    print_json(last) if as_json else _print_event(last)
    raise SystemExit(DIFFERS if last.differs else 0)


def _print_rehearsal(figures: Figures, new: Path, since_ms: int, settings: Config) -> None:
    since = times.for_people(since_ms)[:-3]
    told = f"{counted(figures.events, 'event')} since {since} UTC, with {clean(new.name)}:"
    click.echo(f"{bold(told)}\n")
    configured = [action.name for action in settings.actions]
    names = dict.fromkeys([*configured, *sorted(figures.by_action)])
    rows = [(name, figures.by_action.get(name, Counter())) for name in names]
    print_rows(COLUMNS, rows, empty="No action is configured, and none has run.")
    unsaid: dict[str, Counter[str]] = {}
    for name in names:
        own = []
        for each in figures.figures(name):
            if each.of.difference is Difference.UNSAID:
                unsaid.setdefault(each.of.why, Counter())[name] += each.count
            else:
                own.append(each)
        if own:
            click.echo(f"\n{bold(clean(name))}")
        for (difference, why), together in groupby(own, lambda each: each.reason):
            click.echo("\n".join(_lines(difference, why, list(together))))
    if unsaid:
        click.echo(f"\n{bold(WORDS[Difference.UNSAID].capitalize())}")
    for why, counts in unsaid.items():
        told = ", ".join(f"{number(count)} of {clean(name)}" for name, count in counts.items())
        click.echo("\n".join(_wrapped(f"{clean(why)}: {told}" if why else told, 2)))
    if figures.differing:
        click.echo("\n`--event N` shows one event.")
    click.echo("\nNothing was run, sent, asked or stored.")


def _lines(difference: Difference, why: str, figures: Sequence[Figure]) -> Iterator[str]:
    """Yield what differs for one reason: how many events, their kinds, and their numbers."""
    count, so_now = (sum(getattr(each, name) for each in figures) for name in ("count", "so_now"))
    text = f"{number(count)} {WORDS[difference]}{f': {clean(why)}' if why else ''}"
    if so_now:
        text += f" (with the present configuration {number(so_now)} too)"
    yield from _wrapped(text, 2)
    for figure in figures:
        of, more = figure.of, figure.count - MOST_SHOWN
        kind = [of.type or "no type", f"code {of.response_code or 'missing'}", of.outcome or ""]
        numbers = ", ".join(map(str, figure.events[:MOST_SHOWN]))
        rest = f" and {number(more)} more" if more > 0 else ""
        told = f"{number(figure.count)} of {', '.join(map(clean, filter(None, kind)))}"
        yield from _wrapped(f"{told}: event{'s' if figure.count > 1 else ''} {numbers}{rest}", 4)


def _wrapped(text: str, indent: int) -> list[str]:
    return textwrap.wrap(
        text,
        console().width,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + 2),
        break_on_hyphens=False,
    )


def _print_event(event: Rehearsed) -> None:
    click.echo(
        f"{bold(f'Event {event.event_id}')}: {clean(event.type or 'no type')}, code"
        f" {clean(event.response_code or 'missing')}, {clean(event.outcome or '')}"
    )
    if not event.actions:
        click.echo("It matched no action, and would match none.")
    for each in event.actions:
        was = f"{each.state} in the record" if each.state else "not in the record"
        click.echo(f"  {clean(each.action)}: {was}, {each.does} ({WORDS[each.difference]})")
        for line in _wrapped(clean(each.why), 4):
            click.echo(line)
