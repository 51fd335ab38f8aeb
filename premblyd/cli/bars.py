"""Small charts of text. A pipe gets the numbers alone, a terminal without UTF-8 plain signs."""

from collections.abc import Iterator, Sequence

from rich.cells import cell_len

from premblyd.cli.printing import clean, console

MAX_BAR = 40
_EIGHTHS = "▏▎▍▌▋▊▉█"
_LEVELS = "▁▂▃▄▅▆▇█"
_PLAIN_LEVELS = ".:-=+*%#"


def bars(counts: Sequence[tuple[str, int]]) -> Iterator[str]:
    """Yield a line for each name: its count, and on a terminal a bar."""
    out = console()
    names = [clean(name) for name, _ in counts]
    figures = [f"{count:,}" for _, count in counts]
    name_width = max(map(cell_len, names))
    figure_width = max(map(len, figures))
    room = min(MAX_BAR, out.width - name_width - figure_width - 6) if out.is_terminal else 0
    most = max(count for _, count in counts)
    for name, figure, (_, count) in zip(names, figures, counts, strict=True):
        line = f"  {name}{' ' * (name_width - cell_len(name))}  {figure:>{figure_width}}"
        yield f"{line}  {_bar(count, most, room, plain=_is_plain())}".rstrip()


def columns(counts: Sequence[int]) -> str:
    """Return a column for each count, in one line. What is not nothing is seen."""
    levels = _PLAIN_LEVELS if _is_plain() else _LEVELS
    most = max(counts, default=0)
    return "".join(levels[(count * len(levels) - 1) // most] if count else " " for count in counts)


def _bar(count: int, most: int, room: int, *, plain: bool) -> str:
    if room <= 0 or not count:
        return ""
    eighths = max(1, round(count * room * 8 / most))
    if plain:
        return "#" * max(1, eighths // 8)
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (_EIGHTHS[rest - 1] if rest else "")


def _is_plain() -> bool:
    return console().options.ascii_only
