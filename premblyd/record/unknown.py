"""Filters with a name that nobody knows: without a word about it, an empty list would look as if
nothing had happened. None stands for a known name."""

import difflib
from collections.abc import Iterable

from premblyd.config.models import Config
from premblyd.prembly import events, payload
from premblyd.queue.rejections import REASONS
from premblyd.record import queries
from premblyd.record.filters import by_code, by_type
from premblyd.record.listing import Condition
from premblyd.record.queries import By
from premblyd.store.engine import Database
from premblyd.store.table import Table
from premblyd.store.tables import Delivery, Event, Rejection


def action(database: Database, settings: Config | None, name: str) -> str | None:
    """Say that there is no such action. `settings`: None if the configuration is not known."""
    names = {each.name for each in settings.actions} if settings else set()
    if name in names:
        return None
    found = queries.tuples(database, Delivery.select(Delivery.action).distinct())
    names |= {each for (each,) in found}
    if name in names:
        return None
    hint = _hint(name, names)
    if settings is None:
        return f"The database has no action {name}{hint}"
    return f"Neither the configuration nor the database has an action {name}{hint}"


def event_type(database: Database, pattern: str) -> str | None:
    """Say that no event has a type that fits this pattern, and that Prembly documents none."""
    is_known = any(events.matches([pattern], type_) for type_ in events.MEANINGS)
    if is_known or _is_there(database, Event, by_type(database, pattern)):
        return None
    return _undocumented("type", pattern, events.pattern_meant_by(pattern), events.MEANINGS)


def code(database: Database, name: str) -> str | None:
    """Say that no event has this code, and that Prembly documents none such."""
    known = [*payload.CODES, "missing"]
    if name in known or _is_there(database, Event, by_code(database, name)):
        return None
    return _undocumented("code", name, payload.code_meant_by(name), known)


def _undocumented(what: str, name: str, meant: str | None, known: Iterable[str]) -> str:
    hint = f"; did you mean {meant}?" if meant else _hint(name, known)
    return f"The database has no event of {what} {name}, and Prembly documents none{hint}"


def reason(database: Database, name: str) -> str | None:
    """Say that no request was, or is, refused for this reason."""
    asked = Condition(expression=Rejection.reason == name)
    if name in REASONS or _is_there(database, Rejection, asked):
        return None
    return f"Nothing is refused for the reason {name}{_hint(name, REASONS)}"


def _is_there(database: Database, table: type[Table], asked: Condition) -> bool:
    query = table.select(table.id).from_(By(table, asked.index)).where(asked.expression)
    return queries.value(database, query) is not None


def _hint(name: str, names: Iterable[str]) -> str:
    """Return what is like `name`, or what there is."""
    close = difflib.get_close_matches(name.lower(), names := list(names), n=3)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    return f"; there are {', '.join(sorted(names))}." if names else "; there are none."
