"""premblyd show"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from premblyd.cli.common import actor, config_option, json_option, now_ms, until_end
from premblyd.cli.database import database_option, database_path
from premblyd.cli.printing import bold, clean, counted, iso, print_json
from premblyd.errors import PremblydError, TryAgainError
from premblyd.prembly import bodies
from premblyd.privacy import documents as privacy
from premblyd.privacy.outputs import Hidden

UNRECORDED = "Nothing is shown: that you look could not be recorded."
MOST_STRING = 1024  # a longer one is a photo
MOST_TEXT = 65_536
MOST_LINES = 2000
Row = dict[str, Any]


@click.command()
@click.argument("event")
@click.option("--reveal", is_flag=True, help="Show personal data. It is recorded that you did.")
@database_option
@config_option
@json_option
def show(
    config_path: Path, *, event: str, database: str | None, reveal: bool, as_json: bool
) -> None:
    """EVENT is its number or its key. Personal data is masked unless --reveal."""
    from premblyd.record import reading as audit
    from premblyd.store.sqlite.opening import connect_read_only

    path = database_path(config_path, database)
    reading = until_end(connect_read_only(path))
    found = audit.find_event(reading, event)
    if found is None:
        raise PremblydError(f"There is no event {event}. `premblyd events` lists them.")
    if reveal:
        _record(path, found["id"])
    deliveries = audit.deliveries(reading, event_id=found["id"])[::-1]
    attempts = audit.attempts(reading, [delivery["id"] for delivery in deliveries])
    body = found.pop("body")
    document = _parse(body)
    if reveal:
        found["headers"] = json.loads(found["headers"])
        found["body"] = body.decode("utf-8", "replace") if document is None else document
    else:
        found, deliveries = _masked(found, document, deliveries, attempts)
    for delivery in deliveries:
        delivery["attempts"] = [one for one in attempts if one["delivery_id"] == delivery["id"]]
    shown = {**found, "deliveries": deliveries}
    if as_json:
        print_json(shown)
    else:
        _print(shown)


def _record(path: Path, event_id: int) -> None:
    """Record that the actor looks at an event's personal data. Raise PremblydError when that can't
    be recorded: then nothing is shown."""
    from premblyd.record.operating import Operator
    from premblyd.store.sqlite.opening import connect_operator

    try:
        writing = until_end(connect_operator(path))
        Operator(writing, actor()).record_reveal(event_id, now_ms())
    except TryAgainError as error:
        raise TryAgainError(f"{error}\n{UNRECORDED}") from None
    except PremblydError:
        raise PremblydError(
            f"{UNRECORDED} You may not write the database:"
            f" sudo -u premblyd premblyd show {event_id} --reveal"
        ) from None


def _masked(
    event: Row, document: Any, deliveries: list[Row], attempts: list[Row]
) -> tuple[Row, list[Row]]:
    """Return the event and its deliveries as they are shown; mask in place what hooks printed."""
    del event["headers"]
    shown = {name: privacy.mask_column(name, value) for name, value in event.items()}
    if document is None:  # no JSON object, or one that can't be walked
        body, hidden = privacy.MASK, Hidden(None)
    else:
        masked = privacy.mask_document(document)
        columns = (str(event[name]) for name in shown if shown[name] != event[name])
        body, hidden = masked.document, Hidden((*masked.hidden, *columns))
    if shown["detail"]:
        shown["detail"] = hidden.without(shown["detail"])
    names = tuple(text for text in (shown["reference"], shown["key"]) if text != privacy.MASK)
    for attempt in attempts:
        is_cut = bool(attempt["output_truncated"])
        attempt["output"] = hidden.mask(attempt["output"] or "", names, is_cut) or None
        attempt["error"] = hidden.mask(attempt["error"] or "", names) or None
    listed = []
    for delivery in deliveries:
        error = hidden.mask(delivery.pop("last_error") or "", names) or None
        masks = {name: privacy.mask_column(name, value) for name, value in delivery.items()}
        listed.append({**masks, "last_error": error})
    return {**shown, "body": body}, listed


def _parse(body: bytes) -> dict[str, Any] | None:
    """Return the body's JSON object; None if it is none, or is nested too deeply to walk."""
    document = bodies.parse(body)
    return None if privacy.is_deep(document) else document


def _print(event: dict[str, Any]) -> None:
    deliveries, body = event.pop("deliveries"), event.pop("body")
    headers = event.pop("headers", [])
    click.echo(bold(f"Event {event['id']}"))
    for name, value in event.items():
        if value is not None and name != "id":
            text = f"{iso(value)} UTC" if name.endswith("_at_ms") else clean(value)
            click.echo(f"  {name.removesuffix('_ms'):<20} {text}")
    if headers:
        click.echo("  headers")
    for name, value in headers:
        click.echo(f"    {clean(name)}: {clean(value)}")
    click.echo("  body")
    click.echo("\n".join(f"    {clean(line)}" for line in _body_lines(body)))
    for delivery in deliveries:
        tried = counted(delivery["attempt_count"], "attempt", "attempts")
        title = bold(f"Delivery {delivery['id']}: {delivery['action']}")
        click.echo(f"\n{title} {delivery['state']} after {tried}")
        for attempt in delivery["attempts"]:
            _print_attempt(attempt)


def _body_lines(body: Any) -> Iterator[str]:
    """Yield a body for people: photos as their size, and not more lines than anybody reads."""
    if isinstance(body, str):
        yield from body[:MOST_TEXT].splitlines()
        if len(body) > MOST_TEXT:
            yield f"… {len(body) - MOST_TEXT:,} characters more; --json shows all"
        return
    pieces = json.JSONEncoder(ensure_ascii=False, indent=2).iterencode(_shortened(body))
    line, count = "", 0
    for piece in pieces:
        first, *more = piece.split("\n")
        line += first
        for text in more:
            yield line
            line, count = text, count + 1
        if count >= MOST_LINES:
            yield "… and more; --json shows all"
            return
    yield line


def _shortened(value: Any) -> Any:
    match value:
        case dict():
            return {name: _shortened(inner) for name, inner in value.items()}
        case list():
            return [_shortened(inner) for inner in value]
        case str() if len(value) > MOST_STRING:
            return f"… {len(value):,} characters"
        case _:
            return value


def _print_attempt(attempt: dict[str, Any]) -> None:
    started, finished = attempt["started_at_ms"], attempt["finished_at_ms"]
    took = f"{finished - started} ms" if finished else "running"
    error = f": {clean(attempt['error'])}" if attempt["error"] else ""
    click.echo(
        f"  {attempt['number']}. {iso(started)} UTC  {attempt['outcome'] or 'open'}"
        f"{error}  ({took})"
    )
    for line in (attempt["output"] or "").splitlines():
        click.echo(f"     | {clean(line)}")
    if attempt["output_truncated"]:
        click.echo("     | … the rest was not kept")
