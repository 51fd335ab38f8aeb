"""What the lists have in common: options, made of their filters, and what they print."""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import click

from premblyd.cli.common import (
    TypePattern,
    WhenType,
    config_option,
    json_option,
    time_of,
    until_end,
)
from premblyd.cli.database import database_of, database_option, settings_if_valid
from premblyd.cli.printing import clean, print_json
from premblyd.config.values import When
from premblyd.engines.connections import Database, connect_read_only
from premblyd.record import events, filters, lists
from premblyd.record.filters import Chosen, Filter, Reads, filters_of

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=Chosen)
MAX_ROWS = 1_000_000_000


class Key(click.ParamType[str]):
    """An event's key or its beginning, as the log has it: hex digits."""

    name = "KEY"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        key = str(value).lower()
        if not re.fullmatch(r"[0-9a-f]{1,32}", key):
            self.fail(f"{value!r} is no key: 32 hex digits, or how they begin")
        return key


TYPES: dict[Reads, click.ParamType[Any]] = {
    Reads.TYPE: TypePattern(),
    Reads.TIME: WhenType(),
    Reads.KEY: Key(),
}


def list_options(kind: type[Chosen]) -> Callable[[F], F]:
    """Add an option for each filter of a list, with the filter's field as parameter, and those that
    every list has: `limit`, `wide`, `database`, `config_path` and `as_json`."""

    def add(command: F) -> F:
        for option in (json_option, config_option, database_option, _wide, _limit):
            command = option(command)
        return filter_options(kind)(command)

    return add


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


_limit = click.option(
    "--limit",
    default=50,
    show_default=True,
    metavar="N",
    type=click.IntRange(1, MAX_ROWS),
    help="Show at most this many.",
)
_wide = click.option("--wide", is_flag=True, help="Show every column, whole.")


def chosen_by(kind: type[C], record: Database, asked: dict[str, Any]) -> C:
    """Return which rows the options ask for. Raise NotFoundError for an event that is not there."""
    values = dict(asked)
    for each in filters_of(kind):
        value = values.get(each.field)
        if each.reads is Reads.EVENT and value is not None:
            values[each.field] = events.find_event_id(record, value)
        elif isinstance(value, When):
            values[each.field] = time_of(value, record)
    return kind(**values)


def note_unknown(
    record: Database, config_path: Path, database: str | None, asked: dict[str, Any]
) -> None:
    """Say what makes a list empty whatever there is: a name that nobody knows, times in which
    nothing can be."""
    notes: list[str | None] = []
    since, until = asked.get("since_ms"), asked.get("until_ms")
    if since and until and (time_of(since, record) or 0) >= (time_of(until, record) or 0):
        notes.append("--since is not before --until: nothing can be in between.")
    if action := asked.get("action"):
        settings = settings_if_valid(config_path, database)
        notes.append(filters.unknown_action(record, settings, action))
    notes += [
        says(record, asked[name])
        for name, says in (
            ("type", filters.unknown_type),
            ("code", filters.unknown_code),
            ("reason", filters.unknown_reason),
        )
        if asked.get(name) is not None
    ]
    for words in filter(None, notes):
        click.echo(f"note: {clean(words)}", err=True)


def print_list(
    kind: type[Chosen],
    print_rows: Callable[..., None],
    *,
    config_path: Path,
    database: str | None,
    limit: int,
    wide: bool,
    as_json: bool,
    **asked: Any,
) -> None:
    """Print the rows that the options ask for, for people by `print_rows`."""
    record = until_end(connect_read_only(database_of(config_path, database)))
    rows: Sequence[Any] = lists.rows(record, chosen_by(kind, record, asked), limit)
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        print_rows(rows, wide=wide, hint="--wide shows all.")
    if not rows:
        note_unknown(record, config_path, database, asked)
