"""Showing what came out."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tests.bench.rows import Goal, Outcome

STYLES = {"aim": "green", "met": "yellow", "missed": "bold red", "": ""}
PIPE_WIDTH = 150


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
        low, high = min(outcome.ratios), max(outcome.ratios)
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
