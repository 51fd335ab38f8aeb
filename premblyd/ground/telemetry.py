"""Everything that can happen, as a table, and how it is reported: the log and the metrics
listen."""

import functools
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, cast

from premblyd.feature import added
from premblyd.ground import logs
from premblyd.ground.logs import Level

# Each event of the log, its level and its fields, in the order in which a line has them. One with
# `?` is left out while it is None. A `cause` is an exception: the log shows its type and the lines
# it came through, never its text. Those of features are in their __init__.py (OCCURRENCES).
# docs/monitoring.md explains all.
TABLE = """
# Webhooks, hooks, the daemon
webhook.received          info     event_id key endpoint kind type response_code outcome reference
                                   actions body_bytes verified_by remote_ip duration_ms doubt?
                                   trace_id?
webhook.duplicate         info     event_id key endpoint kind type response_code outcome reference
                                   actions body_bytes verified_by remote_ip duration_ms doubt?
                                   trace_id?
webhook.rejected          warning  endpoint remote_ip reason body_bytes method? path_characters?
                                   hint?
webhook.other_form        warning  endpoint hint
webhook.not_logged        warning  kind count
webhook.overloaded        warning  limit remote_ip
webhook.unavailable       error    endpoint remote_ip after_ms?
webhook.failed            error    cause endpoint
webhook.field_failed      warning  endpoint field error
webhook.too_complex       warning  endpoint body_bytes
action.when_failed        warning  action error
attempt.finished          warning  event_id delivery action attempt outcome state exit_code
                                   http_status error reference duration_ms trace_id?
attempt.lease_lost        warning  delivery attempt
hook.strays_killed        warning  count
daemon.hooks_interrupted  warning  count
runner.failed             error    cause action
dispatcher.failed         error    cause action?
daemon.started            info     version listen database endpoints actions
                                   recovered_deliveries killed_leftovers
daemon.was_down           warning  down_since down_until minutes remedy
daemon.not_started        critical reason? problems? exit_code cause?
daemon.stopping           info     running_hooks
daemon.stopped            info
daemon.failed             critical cause part
daemon.let_go             warning  deliveries
daemon.waits              warning  part lacks
daemon.listen_ignored     warning  listen used remedy
daemon.not_published      warning  reason
config.reloaded           info     endpoints actions
config.problem            error    problem
config.reload_refused     error    problems
config.needs_restart      warning  setting
clock.jumped              warning  by_ms
# The store
store.unavailable         error    reason
store.recovered           info
store.operation_failed    error    cause
"""
# Events that are no warning, where a field is one of these.
EXPECTED = (
    ("attempt.finished", "outcome", ("succeeded",)),
    ("attempt.finished", "state", ("cancelled", "skipped")),
)
Listener = Callable[[str, Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Event:
    """An event of the log: a row of the table."""

    level: Level
    fields: dict[str, bool]  # by name: whether it is left out while it is None


@functools.cache
def events() -> dict[str, Event]:
    """Return the events by their names: those of the table above, and those of features."""
    found = {}
    for table in (TABLE, *added("__init__", "OCCURRENCES")):
        for row in re.sub(r"\n +", " ", table).splitlines():
            if row and not row.startswith("#"):
                name, level, *fields = row.split()
                about = {field.rstrip("?"): field.endswith("?") for field in fields}
                found[name] = Event(cast(Level, level), about)
    return found


def tell(event: str, /, *, is_logged: bool = True, **fields: Any) -> None:
    """Tell every listener what happened, in the thread in which it did; without `is_logged` all but
    the log, as one of too many: what is counted is what happened."""
    for listener in LISTENERS:
        if listener is _log and not is_logged:
            continue
        try:
            listener(event, fields)
        except MemoryError:  # one line less; the writer's thread, say, must go on
            continue


def _log(event: str, fields: Mapping[str, Any]) -> None:
    row = events()[event]
    level = row.level
    line: dict[str, Any] = {}
    for name, is_optional in row.fields.items():
        value = fields.get(name)
        if value is not None or not is_optional:
            line[name] = value
    if cause := line.pop("cause", None):
        line["exc_info"] = cause
    for field, values in _expected().get(event, ()):
        if fields[field] in values:  # all went well, or another event has made it pointless
            level = "info"
    logs.write(level, event, line)


@functools.cache
def _expected() -> dict[str, list[tuple[str, Collection[str]]]]:
    found: dict[str, list[tuple[str, Collection[str]]]] = {}
    for event, field, values in (*EXPECTED, *added("__init__", "EXPECTED")):
        found.setdefault(event, []).append((field, values))
    return found


# None of them may raise or wait: the loop and the writer's thread tell here.
LISTENERS: list[Listener] = [_log]
