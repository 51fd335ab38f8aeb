"""premblyd rehearse: what another configuration would have done with past events."""

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby, starmap
from pathlib import Path

import click

from premblyd.cli import caller
from premblyd.cli.common import (
    ROW_ID,
    WHEN,
    database_of,
    open_to_read,
    record_options,
    settings_if_valid,
)
from premblyd.cli.printing import Column, bold, clean, console, print_json, print_rows, progress
from premblyd.config.load import load_config
from premblyd.config.models import Config
from premblyd.config.values import When
from premblyd.features.tryout import deciding
from premblyd.features.tryout.rehearsal import Difference, Figure, Figures, Rehearsed, notes
from premblyd.features.tryout.rehearsal import rehearse as play
from premblyd.ground import times
from premblyd.ground.errors import NotFoundError
from premblyd.ground.words import counted, number

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
        click.echo(f"note: {caller.as_called(note)}", err=True)
    figures, last = Figures(), None
    with progress(silent=as_json) as bar:
        task = bar.add_task("Rehearsing", total=max(0, span.last_id - span.first_id + 1))
        for event in play(record, rehearsed, present, span):
            bar.update(task, completed=event.event_id - span.first_id + 1)
            figures.add(event)
            last = event
    if event_id is None:
        exact = {"new": str(new), "since_ms": since_ms, **figures.as_json()}
        print_json(exact) if as_json else _print(figures, new, since_ms, rehearsed)
        raise SystemExit(DIFFERS if figures.differing else 0)
    if last is None or last.event_id != event_id:
        since_text = times.for_people(since_ms)[:-3]
        raise NotFoundError(
            f"There is no event {event_id} since {since_text} UTC. Try an earlier `--since`."
        )
    print_json(last) if as_json else _print_event(last)
    raise SystemExit(DIFFERS if last.differs else 0)


def _print(figures: Figures, new: Path, since_ms: int, settings: Config) -> None:
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
    """Yield what differs for one reason: how many events, of which kinds, and which these are."""
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
