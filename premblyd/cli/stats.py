"""premblyd stats. Its charts are of text: a pipe gets the numbers alone, a terminal without UTF-8
plain signs."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import click
from rich.cells import cell_len

from premblyd import times
from premblyd.cli import config_option, json_option
from premblyd.cli.common import WHEN, database_of, database_option, open_to_read, settings_if_valid
from premblyd.cli.printing import (
    Column,
    bold,
    clean,
    console,
    print_json,
    print_rows,
    print_sentence,
)
from premblyd.config.values import When
from premblyd.prembly.payload import CODES
from premblyd.record import pauses, statistics
from premblyd.record.statistics import ActionFigures, EventCount, Period
from premblyd.words import counted, duration, percent

DEFAULT = When.read("24h")
MAX_BAR = 40
_EIGHTHS = "▏▎▍▌▋▊▉█"
_LEVELS = "▁▂▃▄▅▆▇█"
_PLAIN_LEVELS = ".:-=+*%#"


@click.command()
@click.option(
    "--since",
    type=WHEN,
    help="Count from then on, whole hours: 2026-01-31, 12h, 30d (default: 24h).",
)
@database_option
@config_option
@json_option
def stats(config_path: Path, *, database: str | None, since: When | None, as_json: bool) -> None:
    """Events by outcome, code and type, refused requests by reason, and for each action: how many
    of its attempts succeeded, how long they took, and what waits.

    Durations are accurate to a fifth. Times are UTC.
    """
    record = open_to_read(database_of(config_path, database))
    since = since or DEFAULT
    settings = settings_if_valid(config_path, database)
    at_ms = record.now_ms()
    names = [action.name for action in settings.actions] if settings else []
    found = statistics.of_period(record, since_ms=since.by(at_ms), now_ms=at_ms, names=names)
    if as_json:
        print_json(dataclasses.asdict(found))
        return
    _print_events(found)
    _print_bars("Refused requests, as far as they are kept", found.refused)
    _print_actions(found.actions, at_ms)


def _print_events(found: Period) -> None:
    since_ms, each_ms = found.since_ms, found.each_ms
    events, duplicates, unmatched = (
        sum(getattr(each, name) for each in found.by_outcome)
        for name in ("events", "duplicates", "unmatched")
    )
    since = times.for_people(since_ms - since_ms % times.HOUR_MS)[:-3]
    click.echo(
        f"{bold(counted(events, 'event'))} since {since} UTC; {unmatched:,} of them matched no"
        f" action. {counted(duplicates, 'duplicate')}."
    )
    spans: Counter[int] = Counter()
    for each in found.by_outcome:
        spans[each.from_ms] += each.events
    if console().is_terminal and events:
        first_ms = since_ms - since_ms % each_ms
        counts = [spans[at_ms] for at_ms in range(first_ms, found.until_ms + 1, each_ms)]
        click.echo(columns(counts))
        hours = each_ms // times.HOUR_MS
        click.echo(f"each column is {counted(hours, 'hour')}; the highest is {max(counts):,}")
    _print_bars("By outcome", _totals(found.by_outcome))
    _print_bars("By code", _totals(found.by_response_code), CODES)
    if any(each.name for each in found.by_type):
        _print_bars("By type", _totals(found.by_type))


def _print_bars(
    title: str, counts: Counter[str], meanings: Mapping[str, str] | None = None
) -> None:
    """Print how many there were of each name, the most first."""
    if counts:
        click.echo(f"\n{bold(title)}")
        named = [
            (" ".join(filter(None, (name, (meanings or {}).get(name)))), count)
            for name, count in counts.most_common()
        ]
        click.echo("\n".join(bars(named)))


def _print_actions(actions: Sequence[ActionFigures], now_ms: int) -> None:
    def waiting_for(each: ActionFigures) -> str:
        return duration(now_ms - each.oldest_waiting_ms) if each.oldest_waiting_ms else ""

    columns = (
        Column("action"),
        Column("succeeded", lambda each: percent(each.success_rate), kind="whole"),
        Column("attempts", "attempt_count", rank=3, kind="whole"),
        Column("median", lambda each: duration(each.median_ms), rank=1, kind="whole"),
        Column("p95", lambda each: duration(each.p95_ms), rank=2, kind="whole"),
        Column("waiting", "backlog", kind="whole"),
        Column("for", waiting_for, rank=1, kind="whole"),
        Column("dead", kind="whole"),
    )
    click.echo(f"\n{bold('Actions')}")
    print_rows(columns, actions, empty="No action is configured, and none has run.")
    for each in actions:
        if each.pause is not None:
            print_sentence(f"{each.action} has been {pauses.sentence(each.pause)}.")


def _totals(counts: Iterable[EventCount]) -> Counter[str]:
    totals: Counter[str] = Counter()
    for each in counts:
        totals[each.name or "none"] += each.events
    return totals


def bars(counts: Sequence[tuple[str, int]]) -> Iterator[str]:
    """Yield a line for each name: its count, and on a terminal a bar."""
    out = console()
    names = [clean(name) for name, _ in counts]
    figures = [f"{count:,}" for _, count in counts]
    name_width = max(map(cell_len, names))
    figure_width = max(map(len, figures))
    room = min(MAX_BAR, out.width - name_width - figure_width - 6) if out.is_terminal else 0
    most = max(count for _, count in counts)
    for name, figure, (_, count) in zip(names, figures, counts, strict=True):
        line = f"  {name}{' ' * (name_width - cell_len(name))}  {figure:>{figure_width}}"
        yield f"{line}  {_bar(count, most, room)}".rstrip()


def columns(counts: Sequence[int]) -> str:
    """Return a column for each count, in one line. What is not nothing is seen."""
    levels = _PLAIN_LEVELS if console().options.ascii_only else _LEVELS
    most = max(counts, default=0)
    return "".join(levels[(count * len(levels) - 1) // most] if count else " " for count in counts)


def _bar(count: int, most: int, room: int) -> str:
    if room <= 0 or not count:
        return ""
    eighths = max(1, round(count * room * 8 / most))
    if console().options.ascii_only:
        return "#" * max(1, eighths // 8)
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (_EIGHTHS[rest - 1] if rest else "")
