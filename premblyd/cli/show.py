"""premblyd show"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from premblyd.cli.common import (
    actor,
    config_option,
    console,
    escape,
    iso,
    json_option,
    now_ms,
    print_json,
)
from premblyd.errors import PremblydError
from premblyd.prembly import payload, privacy

if TYPE_CHECKING:
    from premblyd.config import Config

SECRET_FIELDS = ("token", "session_id")


@click.command()
@click.argument("event")
@click.option("--reveal", is_flag=True, help="Show personal data. It is recorded that you did.")
@config_option
@json_option
def show(config_path: Path, *, event: str, reveal: bool, as_json: bool) -> None:
    """EVENT is its number or its key. Personal data is masked unless --reveal."""
    from premblyd import config
    from premblyd.store import audit, database

    settings = config.load(config_path, look_up_secrets=False)
    reading = database.connect_read_only(settings.database_path)
    found = audit.find_event(reading, event)
    if found is None:
        raise PremblydError(f"There is no event {event}. `premblyd events` lists them.")
    if reveal:
        _record(settings, found["id"])
    deliveries = audit.deliveries(reading, event_id=found["id"])[::-1]
    attempts = audit.attempts(reading, [one["id"] for one in deliveries])
    for one in attempts:
        if not reveal and one["output"]:
            one["output"] = privacy.mask_text(one["output"])
    for delivery in deliveries:
        delivery["attempts"] = [one for one in attempts if one["delivery_id"] == delivery["id"]]
    shown = {**_shown(found, reveal), "deliveries": deliveries}
    if as_json:
        print_json(shown)
    else:
        _print(shown)


def _record(settings: "Config", event_id: int) -> None:
    from premblyd.store import database
    from premblyd.store.operator import Operator

    try:
        writing = database.connect_operator(settings.database_path)
        Operator(writing, actor()).record_reveal(event_id, now_ms())
    except PremblydError:
        # Who may read the database may see it anyway; only the record needs the right to write.
        click.echo("note: you may not write the database, so this look is not recorded", err=True)


def _shown(event: dict[str, Any], reveal: bool) -> dict[str, Any]:
    """Return the event with its body as JSON if it is JSON, masked unless `reveal`."""
    body = event.pop("body")
    document = payload.parse(body)
    if reveal:
        event["body"] = document if document is not None else body.decode("utf-8", "replace")
        event["headers"] = json.loads(event["headers"])
        return event
    for name in SECRET_FIELDS:
        event[name] = privacy.MASK if event[name] else None
    for name in ("detail", "user_ref", "reference"):
        event[name] = privacy.mask_text(event[name]) if event[name] else None
    del event["headers"]
    event["body"] = privacy.MASK if document is None else privacy.mask_document(document)
    return event


def _print(event: dict[str, Any]) -> None:
    out = console()
    deliveries, body = event.pop("deliveries"), event.pop("body")
    out.print(f"[bold]Event {event['id']}[/bold]")
    for name, value in event.items():
        if value is not None and name != "id":
            text = f"{iso(value)} UTC" if name.endswith("_at_ms") else escape(value)
            out.print(f"  {name.removesuffix('_ms'):<20} {text}")
    out.print("  body")
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False, indent=2)
    for line in text.splitlines():
        out.print(f"    {escape(line)}")
    for delivery in deliveries:
        out.print(
            f"\n[bold]Delivery {delivery['id']}: {delivery['action']}[/bold] {delivery['state']}"
            f" after {delivery['attempt_count']} attempts"
        )
        for attempt in delivery["attempts"]:
            _print_attempt(attempt)


def _print_attempt(attempt: dict[str, Any]) -> None:
    out = console()
    started, finished = attempt["started_at_ms"], attempt["finished_at_ms"]
    took = f"{finished - started} ms" if finished else "running"
    error = f": {escape(attempt['error'])}" if attempt["error"] else ""
    out.print(
        f"  {attempt['number']}. {iso(started)} UTC  {attempt['outcome'] or 'open'}"
        f"{error}  ({took})"
    )
    for line in (attempt["output"] or "").splitlines():
        out.print(f"     | {escape(line)}")
    if attempt["output_truncated"]:
        out.print("     | … the rest was not kept")
