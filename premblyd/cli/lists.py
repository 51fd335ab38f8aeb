"""The lists: `events`, `deliveries`, `rejections`. Their options are made from their
filters (record/filters.py), and their columns are in LISTS."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

from premblyd.cli.common import (
    WHEN,
    Typed,
    count_option,
    database_of,
    open_to_read,
    record_options,
)
from premblyd.cli.printing import Column, print_listed
from premblyd.config.values import TYPE_PATTERN, When
from premblyd.record import lists
from premblyd.record.events import find_event_id
from premblyd.record.filters import DeliveryFilter, EventFilter, RejectionFilter
from premblyd.record.listing import Chosen, Filter, Reads, filters_of
from premblyd.store.engine import Database

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=Chosen)
MAX_ROWS = 1_000_000_000


def _outcome(event: Any) -> str:
    """Return what an event says of the person, beside what speaks against it."""
    said = f"{event.outcome} ({event.doubt})" if event.doubt else str(event.outcome)
    return lists.instead(event, "outcome") or said


def _reference(event: Any) -> str | None:
    """Return an event's reference, or why it has none any more."""
    reference: str | None = event.reference
    return reference or lists.instead(event, "reference")


def _why(delivery: Any) -> str | None:
    """Return why a delivery has not succeeded, as far as that is known."""
    if delivery.ran_instead_id is not None:
        other, event = delivery.ran_instead_id, delivery.ran_instead_event_id
        return f"delivery {other} (event {event}) ran instead"
    return lists.instead(delivery, "last_error") or delivery.last_error


def _due_ms(delivery: Any) -> int | None:
    """Return when a delivery runs next."""
    return None if delivery.state == "running" else delivery.due_at_ms


def _type(text: str) -> str | None:
    """Return a type of events, or a pattern, in small letters; None for what is none."""
    return text.lower() if re.fullmatch(TYPE_PATTERN, text.lower()) else None


class Shown(NamedTuple):
    """How a list is printed: without rows, and its columns."""

    empty: str
    columns: tuple[Column, ...]


LISTS: dict[type[Chosen], Shown] = {
    EventFilter: Shown(
        "No events.",
        (
            Column("id", kind="whole"),
            Column("received (UTC)", "received_at_ms", kind="time"),
            Column("type"),
            Column("code", lambda event: event.response_code or "missing", kind="whole"),
            Column("outcome", _outcome),
            Column("reference", _reference),
            Column("handled", kind="whole"),
        ),
    ),
    DeliveryFilter: Shown(
        "No deliveries.",
        (
            Column("id", kind="whole"),
            Column("event", "event_id", kind="whole"),
            Column("action"),
            Column("state", kind="whole"),
            Column("attempts", "attempt_count", kind="whole"),
            Column("due (UTC)", _due_ms, kind="time"),
            Column("error", _why),
        ),
    ),
    RejectionFilter: Shown(
        "No rejections.",
        (
            Column("when (UTC)", "at_ms", kind="time"),
            Column("from", "remote_ip", kind="whole"),
            Column("reason", lambda row: f"{row.reason}: {row.hint}" if row.hint else row.reason),
            Column("endpoint"),
            Column("bytes", "body_bytes", kind="whole"),
        ),
    ),
}
_TYPE_WORDS = "not a type such as sdk.session, or a pattern such as credit.*"
TYPES: dict[Reads, click.ParamType[Any]] = {
    Reads.TYPE: Typed("TYPE", _type, _TYPE_WORDS),
    Reads.TIME: WHEN,
}
_limit = count_option("--limit", 50, MAX_ROWS, "Show at most this many.")


def list_options(kind: type[Chosen]) -> Callable[[F], F]:
    """Add an option for each filter of a list, with the filter's field as parameter, and those that
    every list has: `limit`, `database`, `config_path` and `as_json`."""
    return lambda command: filter_options(kind)(_limit(record_options(command)))


def filter_options(kind: type[Chosen], *fields: str) -> Callable[[F], F]:
    """Add an option for each filter of a list, or for these fields."""
    own = [
        each for each in filters_of(kind) if each.help and each.field in (fields or {each.field})
    ]

    def add(command: F) -> F:
        for each in reversed(own):
            command = _option(each)(command)
        return command

    return add


def _option(each: Filter) -> Callable[[F], F]:
    name = f"--{(each.option or each.name).replace('_', '-')}"
    if each.reads is Reads.YES:
        return click.option(name, each.field, is_flag=True, help=each.help)
    kind = click.Choice(each.choices) if each.choices else TYPES.get(each.reads)
    return click.option(name, each.field, type=kind, help=each.help)


@click.command()
@list_options(EventFilter)
def events(**asked: Any) -> None:
    """Newest first. Payloads are not shown: see `premblyd show`."""
    list_rows(EventFilter, **asked)


@click.command()
@list_options(DeliveryFilter)
def deliveries(**asked: Any) -> None:
    """Newest first."""
    list_rows(DeliveryFilter, **asked)


@click.command()
@list_options(RejectionFilter)
def rejections(**asked: Any) -> None:
    """Newest first. The newest 10,000 are kept, without their bodies."""
    list_rows(RejectionFilter, **asked)


def list_rows(
    kind: type[Chosen],
    *,
    config_path: Path,
    database: str | None,
    limit: int,
    as_json: bool,
    shown: Shown | None = None,
    **asked: Any,
) -> list[Any]:
    """Print what is asked for of a list, and return its rows. `shown`: of a list that is a
    feature's."""
    record = open_to_read(database_of(config_path, database))
    rows = lists.rows(record, chosen_by(kind, record, asked), limit)
    empty, columns = shown or LISTS[kind]
    print_listed(columns, rows, empty=empty, as_json=as_json)
    return rows


def chosen_by(kind: type[C], record: Database, asked: dict[str, Any]) -> C:
    """Return which rows the options ask for. Raise NotFoundError for an event that is not there."""
    values = dict(asked)
    for each in filters_of(kind):
        value = values.get(each.field)
        if each.reads is Reads.EVENT and value is not None:
            values[each.field] = find_event_id(record, value)
        elif isinstance(value, When):
            values[each.field] = value.by(record.now_ms())
    return kind(**values)
