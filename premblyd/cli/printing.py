"""What commands print. (Not in `common`: the daemon needs no rich, which takes 4 MB.)"""

import shutil
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import click
from rich.cells import cell_len
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TaskID, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from premblyd.ground import jsontext, times

PIPE_WIDTH = 240  # of what goes to no terminal


def console(*, stderr: bool = False) -> Console:
    """Return the console for what people read, on standard output or standard error."""
    people = Console(stderr=stderr, highlight=False)
    if not people.is_terminal:
        people.width = PIPE_WIDTH
    return people


def progress(*, silent: bool) -> Progress:
    """Return what shows how far something is: a bar on standard error, if that is a terminal."""
    out = console(stderr=True)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=out, disable=silent or not out.is_terminal, transient=True)


def showing(progress: Progress) -> Callable[[str, int, int | None], None]:
    """Return what shows how far something is."""
    tasks: dict[str, TaskID] = {}

    def show(what: str, done: int, total: int | None) -> None:
        if what not in tasks:
            tasks[what] = progress.add_task(what, total=None)
        # The log's number may be wrong.
        progress.update(tasks[what], completed=done, total=total and max(done, total))

    return show


def print_json(value: Any) -> None:
    """Print `value`, which may have dataclasses, exactly: what is no ASCII as JSON's escapes, so
    that a terminal obeys none of it."""
    click.echo(jsontext.text(value, indent=2, ensure_ascii=True))


def print_told(exact: Any, words: str, *, as_json: bool) -> None:
    """Print what was done: as JSON, or in words."""
    print_json(exact) if as_json else click.echo(words)


def print_sentence(text: str) -> None:
    """Print what people read."""
    click.echo(clean(text))


def wrapped(text: str, indent: str = "") -> str:
    """Return what people read, in lines that fit the terminal, or 80 columns."""
    width = max(40, shutil.get_terminal_size((80, 24)).columns)
    return textwrap.fill(
        clean(text),
        width,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,  # paths and URLs, to be pasted
        break_on_hyphens=False,
    )


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a list, and what it shows `of` a row: an attribute (default: of its own name)
    or what is made of it. Only `words` may take several lines on a narrow terminal."""

    name: str
    of: str | Callable[[Any], Any] = ""
    kind: Literal["whole", "time", "words"] = "words"

    def cell(self, row: Any) -> str:
        """Return what it shows of a row. Times are in milliseconds there."""
        value = self.of(row) if callable(self.of) else getattr(row, self.of or self.name)
        return clean(times.for_people(value) if self.kind == "time" else value)


def print_listed(
    columns: Sequence[Column], rows: Sequence[Any], *, empty: str, as_json: bool
) -> None:
    """Print all rows of a list: as JSON, or for people as `print_rows` does."""
    print_json(rows) if as_json else print_rows(columns, rows, empty=empty)


def print_rows(columns: Sequence[Column], rows: Sequence[Any], *, empty: str) -> None:
    """Print what the columns show of rows, or `empty` when there are none."""
    _print(columns, [[column.cell(row) for column in columns] for row in rows], empty)


def print_table(titles: Sequence[str], rows: Sequence[Sequence[Any]], *, empty: str) -> None:
    """Print rows of values below these titles, or `empty` when there are none."""
    _print([Column(title) for title in titles], [[*map(clean, row)] for row in rows], empty)


def _print(columns: Sequence[Column], rows: Sequence[Sequence[str]], empty: str) -> None:
    """Print cells: on a terminal in a table that fits it; else each row as a line. (rich would take
    20 s for 100,000 of them.)"""
    out = console()
    if not rows:
        click.echo(empty)
        return
    if out.is_terminal:
        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in columns:
            table.add_column(column.name, overflow="fold", no_wrap=column.kind != "words")
        for row in rows:
            table.add_row(*map(Text, row))
        out.print(table)
        return
    lines = [[column.name for column in columns], *rows]
    widths = [max(map(cell_len, cells)) for cells in zip(*lines, strict=True)]
    for line in lines:
        padded = (
            cell + " " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True)
        )
        click.echo("  ".join(padded).rstrip())


def clean(value: object) -> str:
    """Return a value as plain text: a sender's control characters do nothing to a terminal. A
    boolean is `true` or `false`, as in bodies and in `when`."""
    text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return "".join(letter if letter.isprintable() else "�" for letter in text)


def bold(text: str) -> str:
    """Return `text` for click.echo, which leaves the bold out where there is no terminal."""
    return click.style(text, bold=True)
