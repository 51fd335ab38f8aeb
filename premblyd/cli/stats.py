"""premblyd stats"""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from premblyd import times
from premblyd.cli.bars import bars, columns
from premblyd.cli.common import WhenType, config_option, json_option, until_end
from premblyd.cli.database import database_of, database_option, settings_if_valid
from premblyd.cli.printing import Column, bold, console, print_json, print_table
from premblyd.config.values import When
from premblyd.prembly.payload import CODES
from premblyd.words import counted, duration, percent

if TYPE_CHECKING:
    from premblyd.record.statistics import ActionFigures, EventCount, RejectionCount

ACTIONS = (
    Column(name="action"),
    Column(name="succeeded", kind="whole"),
    Column(name="attempts", rank=3, kind="whole"),
    Column(name="median", rank=1, kind="whole"),
    Column(name="p95", rank=2, kind="whole"),
    Column(name="waiting", kind="whole"),
    Column(name="for", rank=1, kind="whole"),
    Column(name="dead", kind="whole"),
)


@click.command()
@click.option(
    "--since",
    type=WhenType(),
    default="24h",
    show_default=True,
    help="Count from then on, whole hours: 2026-01-31, 12h, 30d.",
)
@database_option
@config_option
@json_option
def stats(config_path: Path, *, database: str | None, since: When, as_json: bool) -> None:
    """Events by outcome, code and type, refused requests by reason, and for each action: how many
    of its attempts succeeded, how long they took, and what waits.

    Durations are right within a fifth. Times are UTC.
    """
    from premblyd.engines.connections import connect_read_only, now_ms
    from premblyd.record import statistics

    record = until_end(connect_read_only(database_of(config_path, database)))
    settings = settings_if_valid(config_path, database)
    at_ms = now_ms(record)
    since_ms = since.by(at_ms)
    each_ms = statistics.span_ms(since_ms, at_ms)
    by_outcome, by_code, by_type = (
        statistics.events(record, by, since_ms=since_ms, each_ms=each_ms)
        for by in ("outcome", "response_code", "type")
    )
    rejections = statistics.rejections(record, since_ms=since_ms, each_ms=each_ms)
    names = [action.name for action in settings.actions] if settings else []
    actions = statistics.actions(record, since_ms=since_ms, now_ms=at_ms, names=names)
    if as_json:
        print_json(
            {
                "since_ms": since_ms,
                "until_ms": at_ms,
                "each_ms": each_ms,
                "by_outcome": [dataclasses.asdict(each) for each in by_outcome],
                "by_response_code": [dataclasses.asdict(each) for each in by_code],
                "by_type": [dataclasses.asdict(each) for each in by_type],
                "rejections": [dataclasses.asdict(each) for each in rejections],
                "actions": [dataclasses.asdict(each) for each in actions],
            }
        )
        return
    _print_events(by_outcome, by_code, by_type, since_ms=since_ms, now_ms=at_ms, each_ms=each_ms)
    _print_rejections(rejections)
    _print_actions(actions, at_ms)


def _print_events(
    by_outcome: "Sequence[EventCount]",
    by_code: "Sequence[EventCount]",
    by_type: "Sequence[EventCount]",
    *,
    since_ms: int,
    now_ms: int,
    each_ms: int,
) -> None:
    events, duplicates, unmatched = (
        sum(getattr(each, name) for each in by_outcome)
        for name in ("events", "duplicates", "unmatched")
    )
    since = times.for_people(since_ms - since_ms % times.HOUR_MS)[:-3]
    total = bold(f"{events:,} event{'' if events == 1 else 's'}")
    click.echo(
        f"{total} since {since} UTC; {unmatched:,} of them matched no action."
        f" {duplicates:,} came again."
    )
    spans: Counter[int] = Counter()
    for each in by_outcome:
        spans[each.from_ms] += each.events
    if console().is_terminal and events:
        first_ms = since_ms - since_ms % each_ms
        counts = [spans[at_ms] for at_ms in range(first_ms, now_ms + 1, each_ms)]
        click.echo(columns(counts))
        hours = each_ms // times.HOUR_MS
        click.echo(f"a column for {counted(hours, 'hour')}, the highest stands for {max(counts):,}")
    _print_bars("By outcome", _totals(by_outcome), {})
    _print_bars("By code", _totals(by_code), CODES)
    if any(each.name for each in by_type):
        _print_bars("By type", _totals(by_type), {})


def _print_bars(title: str, counts: Mapping[str, int], meanings: Mapping[str, str]) -> None:
    if counts:
        click.echo(f"\n{bold(title)}")
        named = [
            (f"{name} {meanings[name]}" if name in meanings else name, count)
            for name, count in counts.items()
        ]
        click.echo("\n".join(bars(named)))


def _print_rejections(rejections: "Iterable[RejectionCount]") -> None:
    counts: Counter[str] = Counter()
    for each in rejections:
        counts[each.reason] += each.count
    _print_bars("Refused requests, as far as they are kept", dict(counts.most_common()), {})


def _print_actions(actions: "Sequence[ActionFigures]", now_ms: int) -> None:
    click.echo(f"\n{bold('Actions')}")
    rows = [
        (
            each.action,
            percent(each.success_rate),
            each.attempt_count,
            duration(each.median_ms),
            duration(each.p95_ms),
            each.backlog,
            duration(now_ms - each.oldest_waiting_ms) if each.oldest_waiting_ms else "",
            each.dead,
        )
        for each in actions
    ]
    print_table(ACTIONS, rows, empty="None is configured, and none has run.")


def _totals(counts: "Iterable[EventCount]") -> dict[str, int]:
    """Return all events by name, the most first."""
    totals: Counter[str] = Counter()
    for each in counts:
        totals[each.name or "none"] += each.events
    return dict(totals.most_common())
