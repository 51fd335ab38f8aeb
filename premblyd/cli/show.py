"""premblyd show"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from premblyd.cli import caller
from premblyd.cli.caller import actor
from premblyd.cli.common import (
    database_of,
    open_to_change,
    open_to_read,
    record_options,
    settings_if_valid,
)
from premblyd.cli.printing import bold, clean, print_json
from premblyd.config.keys import value_of
from premblyd.features.keeping import removed_parts
from premblyd.features.keeping.removed_parts import Remains
from premblyd.ground import times
from premblyd.ground.databases import DatabaseAddress
from premblyd.ground.errors import PremblydError
from premblyd.ground.privacy import MASK
from premblyd.ground.words import counted
from premblyd.record import events
from premblyd.record.events import ShownEvent
from premblyd.record.operating import Operator, RecordedReveal
from premblyd.record.queries import AttemptRow, InquiryRow
from premblyd.record.replays import RAN_BEFORE

UNRECORDED = "Nothing is shown, because your access could not be recorded."


@click.command()
@click.argument("event")
@click.option("--reveal", is_flag=True, help="Show personal data. This is recorded.")
@record_options
def show(
    config_path: Path, *, event: str, database: str | None, reveal: bool, as_json: bool
) -> None:
    """EVENT is its number or its key. Personal data is masked unless --reveal."""
    place = database_of(config_path, database)
    record = open_to_read(place)
    found = events.find_event(record, event)
    settings = settings_if_valid(config_path)
    if reveal:
        shown = events.revealed(record, _record_reveal(place, found.id))
    else:
        shown = events.masked(record, found, plain=settings.plain_actions if settings else ())
    remains = removed_parts.remains(record, found, record.now_ms())
    if as_json:
        print_json({**shown.as_json(), "on_hold": remains.is_on_hold})
    else:
        is_asked = database is not None or not settings or bool(value_of("pending", settings))
        _print(shown, remains, is_asked=is_asked)


def _record_reveal(place: DatabaseAddress, event_id: int) -> RecordedReveal:
    """Record that this user sees an event's personal data. An error of that says besides that
    nothing is shown."""
    try:
        database = open_to_change(place)
        return database.transact(Operator(actor=actor()).reveal(event_id, database.now_ms()))
    except PremblydError as error:
        error.args = (f"{UNRECORDED} {error}",)
        raise


def _print(event: ShownEvent, remains: Remains, *, is_asked: bool) -> None:
    columns = dict(event.columns)
    headers = columns.pop("headers", [])
    click.echo(bold(f"Event {columns.pop('id')}"))
    if event.contradicted:
        click.echo("  Prembly contradicts it: see the questions to Prembly below.")
    for sentence in remains.sentences():
        click.echo(f"  {caller.as_called(clean(sentence))}")
    for name, value in columns.items():
        if value not in (None, ""):  # an empty doubt is none
            text = f"{times.for_people(value)} UTC" if name.endswith("_at_ms") else clean(value)
            click.echo(f"  {name.removesuffix('_ms'):<20} {text}")
    if headers:
        click.echo("  headers")
    for name, value in headers:
        click.echo(f"    {clean(name)}: {clean(value)}")
    if remains.has_body:
        click.echo("  body")
        click.echo("\n".join(f"    {clean(line)}" for line in events.body_lines(event.body)))
    for delivery in event.deliveries:
        title = bold(f"Delivery {delivery.columns['id']}: {delivery.columns['action']}")
        click.echo(f"\n{title} {delivery.columns['state']} after {_tried(delivery.attempts)}")
        if delivery.columns["ran_instead_id"] is not None:
            other = delivery.columns["ran_instead_id"], delivery.columns["ran_instead_event_id"]
            click.echo("  delivery {} (event {}) ran instead".format(*other))
        elif delivery.columns["state"] == "skipped":
            click.echo(f"  {RAN_BEFORE}")
        if delivery.columns["state"] == "pending" and delivery.columns["waits_for_id"] is not None:
            click.echo(f"  waits for delivery {delivery.columns['waits_for_id']}")
        if delivery.columns["state"] == "dead" and delivery.columns["blocks_order"]:
            click.echo("  later ones wait until it is replayed and succeeds, or is cancelled")
        if (confirmed_at_ms := delivery.columns["confirmed_at_ms"]) is not None:
            click.echo(f"  confirmed by Prembly {times.for_people(confirmed_at_ms)} UTC")
        for attempt in delivery.attempts:
            _print_attempt(attempt)
    for row in event.awaited:
        _print_awaited(row, is_asked=is_asked)
    if event.inquiries:
        click.echo(f"\n{bold('Questions to Prembly')}")
    for inquiry in event.inquiries:
        _print_inquiry(inquiry, has_person=remains.has_person)


def _print_awaited(row: Mapping[str, Any], *, is_asked: bool) -> None:
    asked = counted(row["ask_count"], "question")
    title = bold(f"Unsettled {row['id']}:")
    click.echo(f"\n{title} {row['state']} after {asked} to Prembly")
    if row["due_at_ms"] is not None:
        at = f"asked next at {times.for_people(row['due_at_ms'])} UTC"
        click.echo(f"  {at if is_asked else 'not asked: the configuration has no `pending`'}")
    if row["settled_by_id"] is not None:
        click.echo(f"  settled by event {row['settled_by_id']}")
    if row["last_error"]:
        click.echo(f"  {clean(row['last_error'])}")


def _tried(attempts: Sequence[AttemptRow]) -> str:
    """Return how often a hook was tried; apart, what ended before it had: with `confirm`, each time
    that Prembly was asked and did not know yet."""
    interrupted = sum(attempt.outcome == "interrupted" for attempt in attempts)
    text = counted(len(attempts) - interrupted, "attempt")
    ones = "one" if interrupted == 1 else "ones"
    return f"{text} and {interrupted} interrupted {ones}" if interrupted else text


def _print_attempt(attempt: AttemptRow) -> None:
    started, finished = attempt.started_at_ms, attempt.finished_at_ms
    lasted = "running" if finished is None else f"{finished - started} ms"
    error = f": {clean(attempt.error)}" if attempt.error else ""
    click.echo(
        f"  {attempt.number}. {times.for_people(started)} UTC"
        f"  {attempt.outcome or 'running'}{error}  ({lasted})"
    )
    if attempt.output == MASK:
        click.echo("     | hidden (--reveal shows it)")
        return
    for line in (attempt.output or "").splitlines():
        click.echo(f"     | {clean(line)}")
    if attempt.output_truncated:
        click.echo("     | … the rest was not kept")


def _print_inquiry(inquiry: InquiryRow, *, has_person: bool) -> None:
    of_none = "its session" if has_person else "a deleted name"
    asked_for = f"reference {inquiry.reference}" if inquiry.reference else of_none
    is_status = inquiry.error == f"HTTP {inquiry.http_status}"  # which is told anyway
    error = f": {inquiry.error}" if inquiry.error and not is_status else ""
    facts = [f"{inquiry.duration_ms} ms"]
    if inquiry.http_status:
        facts.append(f"HTTP {inquiry.http_status}, {inquiry.answer_bytes or 0} bytes")
    numbers = {"delivery": inquiry.delivery_id, "stored as event": inquiry.stored_event_id}
    facts += [f"{words} {number}" for words, number in numbers.items() if number]
    line = f"{inquiry.purpose}, {asked_for}: {inquiry.result}{error}  ({'; '.join(facts)})"
    click.echo(f"  {times.for_people(inquiry.at_ms)} UTC  {clean(line)}")
