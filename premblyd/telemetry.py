"""Tells every listener what happened, in one call for each occurrence. The log is a listener, and
so are the metrics."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from premblyd.logs import output
from premblyd.occurrences import Occurrence

Listener = Callable[[Occurrence], None]


def tell(occurrence: Occurrence, *, is_logged: bool = True) -> None:
    """Tell every listener of `occurrence`, in the thread in which it happened; without `is_logged`
    all but the log, as one of too many: what is counted is what happened."""
    for listener in LISTENERS:
        if listener is _log and not is_logged:
            continue
        try:
            listener(occurrence)
        except MemoryError:  # one line less; the writer's thread, say, must go on
            continue


def _log(occurrence: Occurrence) -> None:
    line: dict[str, Any] = {}
    kind: Any = type(occurrence)
    for name, is_optional in _fields(kind):
        value = getattr(occurrence, name)
        if value is not None or not is_optional:
            line[name] = value
    if cause := line.pop("cause", None):
        line["exc_info"] = cause
    output.write(occurrence.log_level(), occurrence.event, line)


@functools.cache
def _fields(kind: Any) -> tuple[tuple[str, bool], ...]:
    """Return the fields of a kind of occurrence, and whether each is left out while it is None."""
    return tuple((field.name, field.default is None) for field in dataclasses.fields(kind))


# None of them may raise or wait: the loop and the writer's thread tell here.
LISTENERS: list[Listener] = [_log]
