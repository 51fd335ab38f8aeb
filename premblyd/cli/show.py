"""premblyd show"""

from pathlib import Path

import click

from premblyd.cli.caller import actor
from premblyd.cli.common import (
    database_of,
    open_to_change,
    open_to_read,
    record_options,
    settings_if_valid,
)
from premblyd.cli.printing import bold, clean, print_json
from premblyd.feature import added
from premblyd.ground import times
from premblyd.ground.databases import DatabaseAddress
from premblyd.ground.errors import PremblydError
from premblyd.ground.privacy import MASK
from premblyd.record import events
from premblyd.record.events import AttemptRow, ShownEvent
from premblyd.record.operating import Operator, RecordedReveal
from premblyd.record.told import Block

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
    own = None if database else settings  # another record's is not known
    if reveal:
        shown = events.revealed(record, _record_reveal(place, found.id), settings=own)
    else:
        plain = settings.plain_actions if settings else ()
        shown = events.masked(record, found, plain=plain, settings=own)
    if as_json:
        print_json(shown.as_json())
    else:
        _print(shown)


def _record_reveal(place: DatabaseAddress, event_id: int) -> RecordedReveal:
    """Record that this user sees an event's personal data. An error of that says besides that
    nothing is shown."""
    try:
        database = open_to_change(place)
        return database.transact(Operator(actor=actor()).reveal(event_id, database.now_ms()))
    except PremblydError as error:
        error.args = (f"{UNRECORDED} {error}",)
        raise


def _print(event: ShownEvent) -> None:
    columns = dict(event.columns)
    headers = columns.pop("headers", [])
    click.echo(bold(f"Event {columns.pop('id')}"))
    lines = [line for each in event.told for line in each.lines]
    for sentence in (*lines, *event.sentences):
        click.echo(f"  {clean(sentence)}")
    for name, value in columns.items():
        if value not in (None, ""):  # an empty doubt is none
            text = f"{times.for_people(value)} UTC" if name.endswith("_at_ms") else clean(value)
            click.echo(f"  {name.removesuffix('_ms'):<20} {text}")
    if headers:
        click.echo("  headers")
    for name, value in headers:
        click.echo(f"    {clean(name)}: {clean(value)}")
    if event.body is not None:
        click.echo("  body")
        click.echo("\n".join(f"    {clean(line)}" for line in events.body_lines(event.body)))
    for delivery in event.deliveries:
        title = bold(f"Delivery {delivery.columns['id']}: {delivery.columns['action']}")
        click.echo(f"\n{title} {delivery.columns['state']}")
        if delivery.columns["ran_instead_id"] is not None:
            other = delivery.columns["ran_instead_id"], delivery.columns["ran_instead_event_id"]
            click.echo("  delivery {} (event {}) ran instead".format(*other))
        for tell in added("shown", "OF_DELIVERY"):
            for sentence in tell(delivery.columns):
                click.echo(f"  {sentence}")
        for attempt in delivery.attempts:
            _print_attempt(attempt)
    for each in event.told:
        for block in each.blocks:
            _print_block(block)


def _print_block(block: Block) -> None:
    click.echo(f"\n{bold(block.title)} {clean(block.more)}".rstrip())
    for line in block.lines:
        click.echo(f"  {clean(line)}")


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
