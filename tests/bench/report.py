"""Showing what came out: a table for people, lines to copy, a picture."""

import itertools
from collections.abc import Sequence
from html import escape
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench.rows import Goal, Outcome

COLOURS = {"aim": "#2e7d32", "met": "#9e9d24", "missed": "#c62828", "": "#607d8b"}
STYLES = {"aim": "green", "met": "yellow", "missed": "bold red", "": ""}
PEER_COLOUR = "#cfd8dc"
WIDTH, LEFT, BARS, LINE, BAR, HEADING = 930, 260, 380, 44, 14, 34
PIPE_WIDTH = 150
MOST_ON_A_LINE = 6  # figures


def print_table(outcomes: Sequence[Outcome]) -> None:
    """Print every figure with its ratio, the ratios' range over the rounds, and its targets."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("what", "ours", "side by side with", "theirs", "ratio", "rounds", "bound", "aim"):
        is_number = name not in ("what", "side by side with")
        table.add_column(name, justify="right" if is_number else "left", no_wrap=is_number)
    table.add_column("")
    last = None
    for outcome in outcomes:
        goal, row = outcome.goal, outcome.row
        if row is not last:
            table.add_row(f"[bold]{row.title}[/]")
        last = row
        low, high = outcome.ratios
        style = STYLES[outcome.verdict]
        table.add_row(
            f"  {goal.what}",
            _amount(outcome.our_median, goal),
            row.peer,
            _amount(outcome.their_median, goal),
            _ratio(outcome.ratio),
            f"{low:.2f}–{high:.2f}",
            _target(goal, goal.bound),
            _target(goal, goal.aim),
            outcome.verdict and f"[{style}]{outcome.verdict}[/]",
        )
    console.print(table)


def print_page(outcomes: Sequence[Outcome]) -> None:
    """Print a line for each row, to be copied into a text."""
    for row, of_row in itertools.groupby(outcomes, lambda each: each.row):
        figures = list(of_row)
        if len(figures) > MOST_ON_A_LINE:
            print(f"- {row.title}, beside {row.peer}: {_worst(figures)}")
            continue
        words = ", ".join(
            f"{each.goal.what} {_amount(each.our_median, each.goal)} ({_ratio(each.ratio)})"
            for each in figures
        )
        print(f"- {row.title}, and how many times what {row.peer} has: {words}")


def _worst(outcomes: Sequence[Outcome]) -> str:
    """Return how many figures are as asked, and which come nearest to what is, or exceed it."""
    asked = [each for each in outcomes if each.verdict]
    kept = sum(each.verdict != "missed" for each in asked)
    worst = sorted(asked, key=lambda each: -each.ratio)[:MOST_ON_A_LINE]
    words = ", ".join(f"{each.goal.what} {_ratio(each.ratio)}" for each in worst)
    return f"{kept} of {len(asked)} figures are as asked; the most: {words}"


def write_svg(outcomes: Sequence[Outcome], path: Path, note: str) -> None:
    """Draw a pair of bars for each figure, ours above the peer's, the longer one full."""
    parts, y, last = [], HEADING, None
    for outcome in outcomes:
        if outcome.row is not last:
            title = f"{outcome.row.title}, against {outcome.row.peer}"
            parts.append(_text(12, y + 20, title, 'font-weight="bold"'))
            y += HEADING
        last = outcome.row
        parts += _pair(outcome, y)
        y += LINE
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + 44}"'
        f' viewBox="0 0 {WIDTH} {y + 44}" font-family="sans-serif" font-size="13">'
        f'<rect width="100%" height="100%" fill="#ffffff"/>'
    )
    parts += [_text(12, 22, note, 'fill="#607d8b"'), _legend(y + 24)]
    path.write_text("\n".join([head, *parts, "</svg>", ""]), encoding="utf-8")


def _pair(outcome: Outcome, y: int) -> list[str]:
    goal, ours, theirs = outcome.goal, outcome.our_median, outcome.their_median
    scale = BARS / max(ours, theirs, 1e-9)
    better = "more is better" if goal.more_is_better else "less is better"
    ratio = f"{outcome.ratio:.2f}×"
    if goal.bound is not None:
        ratio += f"  (asked {_target(goal, goal.bound)})"
    return [
        _text(24, y + 18, goal.what),
        _text(24, y + 33, better, 'font-size="10" fill="#607d8b"'),
        _bar(y + 4, ours * scale, COLOURS[outcome.verdict]),
        _text(LEFT + ours * scale + 6, y + 16, _amount(ours, goal), 'font-size="11"'),
        _bar(y + 6 + BAR, theirs * scale, PEER_COLOUR),
        _text(LEFT + theirs * scale + 6, y + 18 + BAR, _amount(theirs, goal), 'font-size="11"'),
        _text(WIDTH - 180, y + 25, ratio),
    ]


def _legend(y: int) -> str:
    words = {"aim": "ours, aim reached", "met": "ours, as asked", "missed": "ours, missed"}
    entries = [(COLOURS[key], text) for key, text in words.items()]
    entries += [(COLOURS[""], "ours, nothing asked"), (PEER_COLOUR, "peer or budget")]
    drawn = []
    for at, (colour, text) in enumerate(entries):
        x = 12 + at * 175
        drawn.append(f'<rect x="{x}" y="{y - 11}" width="12" height="12" fill="{colour}"/>')
        drawn.append(_text(x + 18, y, text, 'font-size="11"'))
    return "".join(drawn)


def _bar(y: float, length: float, colour: str) -> str:
    return f'<rect x="{LEFT}" y="{y}" width="{max(length, 1):.1f}" height="{BAR}" fill="{colour}"/>'


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(text)}</text>'


def _amount(value: float, goal: Goal) -> str:
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 4
    return f"{value:,.{digits}f} {goal.unit}"


def _ratio(ratio: float) -> str:
    """Return a ratio with what matters of it: near 1, a few thousandths do."""
    return f"{ratio:.3f}" if 0.9 < ratio < 1.1 else f"{ratio:.2f}"


def _target(goal: Goal, target: float | None) -> str:
    if target is None:
        return ""
    return f"{'≥' if goal.more_is_better else '≤'} {target:.2f}"
