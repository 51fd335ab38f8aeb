"""premblyd stats"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import click

from premblyd.cli.common import WHEN, database_of, open_to_read, record_options, settings_if_valid
from premblyd.cli.printing import Column, bold, print_json, print_rows, print_sentence, print_table
from premblyd.config.values import When
from premblyd.features.reading.standing import at_rest_in_words
from premblyd.features.reading.words import duration, percent
from premblyd.features.statistics import shown
from premblyd.features.statistics.shown import ActionFigures, EventCount, Period
from premblyd.ground import times
from premblyd.ground.words import counted
from premblyd.prembly.payload import CODES


@click.command()
@click.option(
    "--since",
    type=WHEN,
    default="24h",
    show_default=True,
    help="Count from then on, whole hours: 2026-01-31, 12h, 30d.",
)
@record_options
def stats(config_path: Path, *, database: str | None, since: When, as_json: bool) -> None:
    """Events by outcome, code and type, rejections by reason, and for each action: how many
    of its attempts succeeded, how long they took, and what waits.

    Durations are accurate to 20 %. Times are UTC.
    """
    record = open_to_read(database_of(config_path, database))
    settings = settings_if_valid(config_path, database)
    at_ms = record.now_ms()
    names = [action.name for action in settings.actions] if settings else []
    found = shown.of_period(record, since_ms=since.by(at_ms), now_ms=at_ms, names=names)
    if as_json:
        print_json(found)
        return
    _print_events(found)
    _print_counts("rejections, as far as they are kept", found.rejections)
    _print_actions(found.actions, at_ms)
    for name, words in at_rest_in_words(record, at_ms).items():
        print_sentence(f"{name} has been {words}.")


def _print_events(found: Period) -> None:
    events, duplicates, unmatched = (
        sum(getattr(each, name) for each in found.by_outcome)
        for name in ("events", "duplicates", "unmatched")
    )
    since = times.for_people(found.since_ms - found.since_ms % times.HOUR_MS)[:-3]
    click.echo(
        f"{bold(counted(events, 'event'))} since {since} UTC; {unmatched:,} of them matched no"
        f" action. {counted(duplicates, 'duplicate')}."
    )
    _print_counts("by outcome", _totals(found.by_outcome))
    codes = _totals(found.by_response_code)
    _print_counts(
        "by code", {f"{code} {CODES.get(code, '')}".rstrip(): codes[code] for code in codes}
    )
    if any(each.name for each in found.by_type):
        _print_counts("by type", _totals(found.by_type))


def _print_counts(title: str, counts: Mapping[str, int]) -> None:
    """Print how many there were of each name, the most first."""
    if counts:
        click.echo()
        rows = [(name, f"{count:,}") for name, count in counts.items()]
        print_table((title, "count"), rows, empty="")


def _print_actions(actions: Sequence[ActionFigures], now_ms: int) -> None:
    def waiting_for(each: ActionFigures) -> str:
        return duration(now_ms - each.oldest_waiting_at_ms) if each.oldest_waiting_at_ms else ""

    columns = (
        Column("action"),
        Column("succeeded", lambda each: percent(each.success_rate), kind="whole"),
        Column("attempts", "attempt_count", kind="whole"),
        Column("median", lambda each: duration(each.median_ms), kind="whole"),
        Column("p95", lambda each: duration(each.p95_ms), kind="whole"),
        Column("waiting", kind="whole"),
        Column("oldest waiting", waiting_for, kind="whole"),
        Column("dead", kind="whole"),
    )
    click.echo()
    print_rows(columns, actions, empty="No action is configured, and none has run.")


def _totals(counts: Iterable[EventCount]) -> dict[str, int]:
    return {each.name or "missing": each.events for each in counts}
