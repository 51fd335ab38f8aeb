"""premblyd sql: queries the database in SQL, whichever engine it is. The connection is read-only;
nobody looks at the text."""

import base64
import sys
import threading
from pathlib import Path
from typing import Any

import click

from premblyd.cli import config_option, json_option
from premblyd.cli.common import count_option, database_of, database_option, open_to_read
from premblyd.cli.printing import print_json, print_table
from premblyd.ground import words
from premblyd.ground.errors import PremblydError

MOST_ROWS = 1_000_000
LONGEST_S = 60  # else a query would keep SQLite's log from being emptied


@click.command()
@click.argument("query")
@count_option("--limit", 1000, MOST_ROWS, "Print at most this many rows.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@database_option
@config_option
@json_option
def sql(
    config_path: Path,
    *,
    query: str,
    limit: int,
    as_csv: bool,
    database: str | None,
    as_json: bool,
) -> None:
    """QUERY is one SELECT, such as 'SELECT * FROM event_log'. It can't change anything. The tables,
    and views with times as text, are on the page docs/database.md. They hold personal data in
    clear, and what you read is not recorded. A query is stopped after a minute.
    """
    if as_json and as_csv:
        raise click.UsageError("Give --json or --csv, not both.")
    record = open_to_read(database_of(config_path, database))
    timer = threading.Timer(LONGEST_S, record.interrupter())
    timer.daemon = True
    timer.start()
    try:
        names, rows = record.ask(query, limit + 1)
    finally:
        timer.cancel()
    is_cut = len(rows) > limit
    del rows[limit:]
    if as_json:
        if len(set(names)) < len(names):
            raise PremblydError("Two columns have the same name: give each its own (`… AS name`).")
        print_json([dict(zip(names, map(_exact, row), strict=True)) for row in rows])
    elif as_csv:
        sys.stdout.buffer.write(
            words.csv_head(names) + words.csv_lines([map(_exact, r) for r in rows])
        )
    else:
        print_table(names, [[*map(_exact, row)] for row in rows], empty="No rows.")
    if is_cut:
        click.echo(f"There are more than {limit:,} rows: --limit prints more.", err=True)


def _exact(value: Any) -> Any:
    """Return a value as it is printed: bytes as text, or in base64 where they are none."""
    if isinstance(value, bytes | memoryview):
        raw = bytes(value)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return base64.b64encode(raw).decode()
    return value
