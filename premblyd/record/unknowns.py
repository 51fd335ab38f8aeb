"""Names that a filter asks for and nobody knows: without a word of it, an empty list would look as
if nothing had happened. None stands for a name that is known."""

import difflib
from collections.abc import Iterable

from peewee import Database

from premblyd.config.models import Config
from premblyd.prembly import events, payload
from premblyd.queue.inbox import REASONS
from premblyd.record import browsing, reading
from premblyd.record.choosing import EventFilter, RejectionFilter

MISSING = "missing"  # asks for events without a code


def of_action(database: Database, settings: Config | None, name: str) -> str | None:
    """Say that there is no such action. `settings`: None if the configuration is not known."""
    names = {action.name for action in settings.actions} if settings else set()
    if name in names:
        return None
    names |= reading.action_names(database)
    if name in names:
        return None
    hint = _hint(name, names)
    if settings is None:
        return f"The database has no action {name}{hint}"
    return f"Neither the configuration nor the database has an action {name}{hint}"


def of_type(database: Database, pattern: str) -> str | None:
    """Say that no event has a type that fits this pattern, and that Prembly documents none."""
    is_known = any(events.matches([pattern], type_) for type_ in events.MEANINGS)
    if is_known or browsing.rows(database, EventFilter(type=pattern), 1):
        return None
    meant = events.pattern_meant_by(pattern)
    hint = f"; did you mean {meant}?" if meant else _hint(pattern, events.MEANINGS)
    return f"The database has no event of type {pattern}, and Prembly documents none{hint}"


def of_code(database: Database, code: str) -> str | None:
    """Say that no event has this code, and that Prembly documents none such."""
    known = [*payload.CODES, MISSING]
    if code in known or browsing.rows(database, EventFilter(code=code), 1):
        return None
    meant = payload.code_meant_by(code)
    hint = f"; did you mean {meant}?" if meant else _hint(code, known)
    return f"The database has no event of code {code}, and Prembly documents none{hint}"


def of_reason(database: Database, reason: str) -> str | None:
    """Say that no request was, or is, refused for this reason."""
    if reason in REASONS or browsing.rows(database, RejectionFilter(reason=reason), 1):
        return None
    return f"Nothing is refused for the reason {reason}{_hint(reason, REASONS)}"


def _hint(name: str, names: Iterable[str]) -> str:
    """Return what is like `name`, or what there is."""
    close = difflib.get_close_matches(name.lower(), names := list(names), n=3)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    return f"; there are {', '.join(sorted(names))}." if names else "; there are none."
