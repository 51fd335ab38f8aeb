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
from premblyd.prembly import payload, privacy

SECRET_FIELDS = ("token", "session_id")
UNRECORDED = "Nothing is shown: that you look could not be recorded."
MAX_DEPTH = 100  # a body nested deeper is shown as text: Python would run out of stack


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
    from premblyd.store import audit
    from premblyd.store.database import connect_read_only

    path = database_path(config_path, database)
    reading = until_end(connect_read_only(path))
    found = audit.find_event(reading, event)
    if found is None:
        raise PremblydError(f"There is no event {event}. `premblyd events` lists them.")
    if reveal:
        _record(path, found["id"])
    deliveries = audit.deliveries(reading, event_id=found["id"])[::-1]
    attempts = audit.attempts(reading, [one["id"] for one in deliveries])
    if not reveal:
        _mask_output(attempts, _parse(found["body"]))
    for delivery in deliveries:
        if not reveal:
            delivery["reference"] = privacy.mask_text(delivery["reference"] or "") or None
        delivery["attempts"] = [one for one in attempts if one["delivery_id"] == delivery["id"]]
    shown = {**_shown(found, reveal), "deliveries": deliveries}
    if as_json:
        print_json(shown)
    else:
        _print(shown)


def _record(path: Path, event_id: int) -> None:
    """Record that the actor looks at an event's personal data. Raise PremblydError when that can't
    be recorded: then nothing is shown."""
    from premblyd.store.database import connect_operator
    from premblyd.store.operator import Operator

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


def _shown(event: dict[str, Any], reveal: bool) -> dict[str, Any]:
    """Return the event with its body as JSON if it is JSON, masked unless `reveal`."""
    body = event.pop("body")
    document = _parse(body)
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


def _parse(body: bytes) -> dict[str, Any] | None:
    """Return the body's JSON object; None if it is none, or is nested too deeply to walk."""
    document = payload.parse(body)
    level: list[Any] = [document]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return document
    return None


def _mask_output(attempts: list[dict[str, Any]], document: dict[str, Any] | None) -> None:
    """Mask what hooks printed: a hook may print the body. Every text that is masked in the body
    is masked there too; where the body's texts can't be told, all of it."""
    texts = set(_hidden(document, privacy.mask_document(document)))
    texts |= {json.dumps(text)[1:-1] for text in texts}  # as it is spelled in JSON
    hidden = sorted(texts, key=len, reverse=True)
    for one in attempts:
        output = one["output"]
        if output and document is None:
            one["output"] = privacy.MASK
        elif output:
            for text in hidden:
                output = output.replace(text, privacy.MASK)
            if one["output_truncated"]:
                output = _without_beginning(output, hidden)
            one["output"] = privacy.mask_text(output)


def _without_beginning(output: str, hidden: list[str]) -> str:
    """Mask what may be the beginning of a text, at the end of an output that was cut there."""
    for text in hidden:
        for length in range(min(len(text), len(output)), 2, -1):
            if output.endswith(text[:length]):
                return output[:-length] + privacy.MASK
    return output


def _hidden(value: Any, masked: Any) -> Iterator[str]:
    """Yield the texts of a body that its masked form does not show."""
    match value:
        case dict():
            for name, one in value.items():
                yield from _hidden(one, masked[name])
        case list():
            for one, other in zip(value, masked, strict=True):
                yield from _hidden(one, other)
        case str() | int() | float() if value != masked and len(str(value)) > 2:
            yield str(value)


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
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False, indent=2)
    for line in text.splitlines():
        click.echo(f"    {clean(line)}")
    for delivery in deliveries:
        tried = counted(delivery["attempt_count"], "attempt", "attempts")
        title = bold(f"Delivery {delivery['id']}: {delivery['action']}")
        click.echo(f"\n{title} {delivery['state']} after {tried}")
        for attempt in delivery["attempts"]:
            _print_attempt(attempt)


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
