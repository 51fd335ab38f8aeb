"""What commands print. (Not in `common`: the daemon needs no rich, which takes 4 MB.)"""

import json
import re
import shutil
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, NamedTuple

import click
import orjson
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.progress import MofNCompleteColumn, Progress, TaskID, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from premblyd.cli import caller
from premblyd.ground import jsontext, times

PIPE_WIDTH = 240  # of what goes to no terminal
_NO_BREAK = "\N{NO-BREAK SPACE}"


def console(*, stderr: bool = False) -> Console:
    """Return the console for what people read, on standard output or standard error."""
    people = Console(stderr=stderr, highlight=False)
    if not people.is_terminal:
        people.width = PIPE_WIDTH
    return people


class _Bars(Progress):
    """Bars of what there is to do: 0 of 0 has none."""

    def get_renderables(self) -> Iterator[RenderableType]:
        yield self.make_tasks_table([task for task in self.tasks if task.total != 0])


def progress(*, silent: bool) -> Progress:
    """Return what shows how far something is: a bar on standard error, if that is a terminal."""
    out = console(stderr=True)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
    return _Bars(*columns, console=out, disable=silent or not out.is_terminal, transient=True)


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
    """Print `value`, which may have dataclasses, exactly: each control character as JSON's
    escape."""
    try:
        text = orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    except TypeError:  # an integer of more than 64 bits, half a character
        text = jsontext.text(value, indent=2)
    lines = text.split("\n")
    click.echo("\n".join(line if line.isprintable() else _escaped(line) for line in lines))


def print_told(exact: Any, words: str, *, as_json: bool) -> None:
    """Print what was done: as JSON, or in words."""
    print_json(exact) if as_json else click.echo(words)


def print_sentence(text: str) -> None:
    """Print what people read: on a terminal in lines that fit it, and with commands as they type
    them."""
    text = caller.as_called(text)
    click.echo("\n".join(wrapped(text)) if console().is_terminal else clean(text))


def wrapped(text: str) -> list[str]:
    """Return `text` in lines that fit the terminal, or 80 columns. Paths and commands in it stay
    whole, to be pasted."""
    width = max(40, shutil.get_terminal_size((80, 24)).columns) - 4
    whole = re.sub("`[^`]*`", lambda found: found[0].replace(" ", _NO_BREAK), clean(text))
    lines = textwrap.wrap(whole, width, break_long_words=False, break_on_hyphens=False)
    return [line.replace(_NO_BREAK, " ") for line in lines]


def json_line(value: Any) -> str:
    """Return `value` exactly as one line, with every control character as JSON's escape."""
    text = jsontext.text(value)
    return text if text.isprintable() else _escaped(text)


def _escaped(line: str) -> str:
    return "".join(letter if letter.isprintable() else json.dumps(letter)[1:-1] for letter in line)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a list, and what it shows `of` a row: an attribute (default: of its own name)
    or what is made of it. Where a terminal is too narrow, the highest `rank` is left out first; 0
    stays. Those from EXTRA on go before anything is shortened."""

    name: str
    of: str | Callable[[Any], Any] = ""
    _: KW_ONLY
    rank: int = 0
    kind: Literal["whole", "time", "words", "reference"] = "words"

    def cell(self, row: Any) -> Any:
        """Return what it shows of a row. Times are in milliseconds there."""
        value = self.of(row) if callable(self.of) else getattr(row, self.of or self.name)
        return times.for_people(value) if self.kind == "time" else value

    def sizes(self, cells: Sequence[str]) -> "Sizes":
        """Return how wide the column must be, would like to be, and is when it is whole."""
        head = cell_len(self.name)
        natural = max(head, *(cell_len(cell) for cell in cells))
        least, good = {
            "time": (MINUTES, MINUTES),
            "words": (16, 30),
            "reference": (16, natural),
            "whole": (natural, natural),
        }[self.kind]
        return Sizes(max(head, min(natural, least)), max(head, min(natural, good)), natural)


class Sizes(NamedTuple):
    """Widths of a column, in cells of the terminal."""

    least: int
    good: int
    natural: int


EXTRA = 5
MINUTES = len("2026-01-31 14:00")
GAP = 2
_AT_ONCE = 500


def print_listed(
    columns: Sequence["Column"], rows: Sequence[Any], *, as_json: bool, **how: Any
) -> None:
    """Print all rows of a list: as JSON, or for people as `print_table` does."""
    if as_json:
        print_json(rows)
    else:
        print_rows(columns, rows, **how)


def print_rows(columns: Sequence[Column], rows: Sequence[Any], **how: Any) -> None:
    """Print what the columns show of rows, as `print_table` does."""
    print_table(columns, [[column.cell(row) for column in columns] for row in rows], **how)


def print_table(
    columns: Sequence[Column | str],
    rows: Sequence[Sequence[Any]],
    *,
    empty: str,
    wide: bool = False,
    hint: str = "",
) -> None:
    """Print rows for people, or `empty` when there are none.

    On a terminal the table fits its width: columns without any value and those that matter least
    are left out, long cells shortened, and a last line says so, with `hint` for how to see all.
    A pipe and `wide` get every column, whole.
    """
    if not rows:
        click.echo(empty)
        return
    out = console()
    titles = [Column(name=column) if isinstance(column, str) else column for column in columns]
    cells = [[clean(cell) for cell in row] for row in rows]
    sizes = [column.sizes([row[index] for row in cells]) for index, column in enumerate(titles)]
    if wide or not out.is_terminal:
        widths = {index: size.natural for index, size in enumerate(sizes)}
        out.width = sum(widths.values()) + GAP * len(widths)
    else:
        used = [index for index in range(len(titles)) if any(row[index] for row in cells)]
        widths = fit(titles, sizes, used, out.width)
    if not out.is_terminal:
        _print_whole([[title.name for title in titles], *cells], list(widths.values()))
        return
    for first in range(0, len(cells), _AT_ONCE):  # so that a long list begins at once
        table = Table(box=None, header_style="bold", pad_edge=False, show_header=not first)
        for index, width in widths.items():
            table.add_column(
                titles[index].name,
                width=width,
                overflow="ellipsis",
                no_wrap=titles[index].kind != "words",
            )
        for row in cells[first : first + _AT_ONCE]:
            table.add_row(*[Text(_at_minutes(row, index, titles, widths)) for index in widths])
        out.print(table)
    if missing := _left_out(titles, cells, widths):
        out.print(Text(" ".join(filter(None, (missing, hint))), style="dim"))


def _print_whole(lines: Sequence[Sequence[str]], widths: Sequence[int]) -> None:
    """Print lines of cells as rich's table would, with nothing shortened. (For 100,000 references
    `reconcile` takes 3 s so, and 20 s with rich.)"""
    for line in lines:
        padded = [
            cell + " " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True)
        ]
        click.echo((" " * GAP).join(padded))


def fit(
    columns: Sequence[Column], sizes: Sequence[Sizes], used: Sequence[int], width: int
) -> dict[int, int]:
    """Return the columns that fit into `width`, of those in `used`, each with its own width.

    Columns are left out by their rank until the others fit; then the most important get the room
    that is left, first to look good, then to be whole. Where room is left even then, columns that
    were left out come back into it.
    """
    shown = list(used)

    def room(need: list[int]) -> int:
        return width - sum(need[index] + GAP for index in shown) + GAP

    least, good, natural = ([*each] for each in zip(*sizes, strict=True))
    for lowest, need in ((EXTRA, good), (1, least)):
        while room(need) < 0 and any(columns[index].rank >= lowest for index in shown):
            shown.remove(max(shown, key=lambda index: columns[index].rank))
    widths = {index: least[index] for index in shown}
    spare = room(least)
    for goal in (good, natural):
        for index in sorted(shown, key=lambda index: columns[index].rank):
            more = min(max(spare, 0), goal[index] - widths[index])
            widths[index] += more
            spare -= more
    for index in sorted(set(used) - set(shown), key=lambda index: columns[index].rank):
        if spare < least[index] + GAP:
            break
        widths[index] = min(natural[index], spare - GAP)
        spare -= widths[index] + GAP
    return dict(sorted(widths.items()))


def _at_minutes(
    row: Sequence[str], index: int, columns: Sequence[Column], widths: dict[int, int]
) -> str:
    """Return a cell; a time without its seconds where these have no room."""
    is_short = columns[index].kind == "time" and widths[index] < cell_len(row[index])
    return row[index][:MINUTES] if is_short else row[index]


def _left_out(
    columns: Sequence[Column], cells: Sequence[Sequence[str]], widths: dict[int, int]
) -> str:
    """Say what a table does not show."""
    missing = [index for index in range(len(columns)) if index not in widths]
    has_value = [index for index in missing if any(row[index] for row in cells)]
    short = [
        index for index, width in widths.items() if _is_cut(columns[index], index, cells, width)
    ]
    parts = [
        f"{label}: {', '.join(columns[index].name for index in group)}."
        for label, group in (
            ("Empty", [index for index in missing if index not in has_value]),
            ("Left out", has_value),
            ("Shortened", short),
        )
        if group
    ]
    return " ".join(parts)


def _is_cut(column: Column, index: int, cells: Sequence[Sequence[str]], width: int) -> bool:
    if column.kind == "time":
        return False
    separate = str.split if column.kind == "words" else lambda text: [text]
    return any(cell_len(piece) > width for row in cells for piece in separate(row[index]))


def clean(value: object) -> str:
    """Return a value as plain text: a sender's control characters do nothing to a terminal. A
    boolean is `true` or `false`, as in bodies and in `when`."""
    text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return "".join(letter if letter.isprintable() else "�" for letter in text)


def bold(text: str) -> str:
    """Return `text` for click.echo, which leaves the bold out where there is no terminal."""
    return click.style(text, bold=True)
