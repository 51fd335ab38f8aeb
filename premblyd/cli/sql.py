"""premblyd sql: queries the database in SQL, whichever engine it is. The connection is read-only;
nobody looks at the text."""

import base64
import contextlib
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import click

from premblyd.cli import config_option, json_option
from premblyd.cli.common import count_option, database_of, database_option, open_to_read
from premblyd.cli.printing import print_json, print_table
from premblyd.ground import words
from premblyd.ground.databases import DatabaseAddress, EncryptedFile
from premblyd.ground.errors import PremblydError
from premblyd.store.connections import backend, connect_read_only, opening_key
from premblyd.store.engine import Database

MOST_ROWS = 1_000_000


@click.command()
@click.argument("query", required=False)
@count_option("--limit", 1000, MOST_ROWS, "Print at most this many rows.")
@click.option(
    "--seconds",
    type=click.IntRange(1, 3600),
    default=60,
    show_default=True,
    help="Stop a query that takes longer than this.",
)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@database_option
@config_option
@json_option
def sql(
    config_path: Path,
    *,
    query: str | None,
    limit: int,
    seconds: int,
    as_csv: bool,
    database: str | None,
    as_json: bool,
) -> None:
    """QUERY is one SELECT, such as 'SELECT * FROM event_log'. It can't change anything. The tables,
    and views with times as text, are on the page docs/database.md. They hold personal data in
    clear, and what you read is not recorded.

    Without QUERY the installed `sqlite3`, `sqlcipher` or `psql` is opened on the database,
    read-only.
    """
    if as_json and as_csv:
        raise click.UsageError("Give --json or --csv, not both.")
    place = database_of(config_path, database)
    if query is None:
        _open_shell(place)
    record = open_to_read(place)
    with _ended_after(record, seconds):
        names, rows = record.ask(query, limit + 1)
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


@contextlib.contextmanager
def _ended_after(record: Database, seconds: int) -> Iterator[None]:
    """Stop the query after so many seconds."""
    is_over = threading.Event()
    interrupt = record.interrupter()

    def end() -> None:
        is_over.set()
        interrupt()

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except PremblydError:
        if not is_over.is_set():
            raise
        raise PremblydError(
            f"The query took longer than {seconds} s and was stopped: --seconds allows more."
        ) from None
    finally:
        timer.cancel()


def _exact(value: Any) -> Any:
    """Return a value as it is printed: bytes as text, or in base64 where they are none."""
    if isinstance(value, bytes | memoryview):
        raw = bytes(value)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return base64.b64encode(raw).decode()
    return value


def _open_shell(place: DatabaseAddress) -> NoReturn:
    """Become the engine's own shell, on the record, read-only."""
    program, package, arguments, environment = backend(place).shell()
    connect_read_only(place).close()  # tells what is wrong in our words
    found = shutil.which(program)
    if found is None:
        raise PremblydError(
            f"{program} is not installed. Install it (Debian's package {package}), or give a query:"
            " `premblyd sql 'SELECT …'`."
        )
    if isinstance(place, EncryptedFile) and _is_too_old(found):
        raise PremblydError(
            f"{found} is older than SQLCipher 4, as Debian 12's is, and can't open this record."
            " Give a query: `premblyd sql 'SELECT …'`."
        )
    if isinstance(place, EncryptedFile):
        arguments = ["-init", f"/dev/fd/{_unlocking(place)}", *arguments]
    os.execve(found, [program, *arguments], {**os.environ, **environment})


def _is_too_old(sqlcipher: str) -> bool:
    """Whether it is older than SQLCipher 4, which is of SQLite 3.25 and newer."""
    told = subprocess.run([sqlcipher, "-version"], capture_output=True, text=True, check=False)
    version = re.match(r"3\.(\d+)", told.stdout)
    return version is not None and int(version[1]) < 25


def _unlocking(place: EncryptedFile) -> int:
    """Return a pipe from which sqlcipher reads the key: nobody sees it in arguments or environment,
    and nothing is in the pipe any more when a query runs. It keeps no history of it."""
    reading, writing = os.pipe()
    key = f"PRAGMA cipher_log_level = NONE;\nPRAGMA key = \"x'{opening_key(place)}'\";"
    os.write(writing, f".output /dev/null\n{key}\n.output\n".encode())
    os.close(writing)
    os.set_inheritable(reading, True)
    return reading
