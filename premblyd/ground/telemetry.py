"""Everything that can happen, as a table, and how it is reported: the log and the metrics
listen."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from premblyd.ground.logs import output
from premblyd.ground.logs.lines import Level

# Each event of the log, its level and its fields, in the order in which a line has them. One with
# `?` is left out while it is None. A `cause` is an exception: the log shows its type and the lines
# it came through, never its text. docs/monitoring.md explains them.
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
webhook.not_logged        warning  kind count
webhook.overloaded        warning  limit remote_ip
webhook.unavailable       error    endpoint remote_ip after_ms?
webhook.failed            error    cause endpoint
webhook.field_failed      warning  endpoint field error
webhook.too_complex       warning  endpoint body_bytes
action.when_failed        warning  action error
action.paused             warning  action until?
action.resumed            info     action
attempt.finished          warning  event_id delivery action attempt outcome state exit_code
                                   http_status error reference duration_ms trace_id?
attempt.lease_lost        warning  delivery attempt
hook.strays_killed        warning  count
daemon.hooks_interrupted  warning  count
runner.failed             error    cause action
worker.not_started        warning  action reason again_s?
worker.ended              warning  action reason
worker.halted             error    action reason
worker.resumed            info     action
dispatcher.failed         error    cause action?
daemon.started            info     version listen database endpoints actions
                                   recovered_deliveries killed_leftovers
daemon.was_down           warning  down_since down_until minutes remedy
daemon.not_started        critical reason? problems? exit_code cause?
daemon.signal_ignored     warning  signal
daemon.stopping           info     running_hooks
daemon.stopped            info
daemon.failed             critical cause part
daemon.waits              warning  part lacks
daemon.listen_ignored     warning  listen used remedy
daemon.not_published      warning  reason
daemon.key_changing       warning  key remedy
config.reloaded           info     endpoints actions
config.problem            error    problem
config.reload_refused     error    problems
config.needs_restart      warning  setting
clock.jumped              warning  by_ms
# The store
store.unavailable         error    reason
store.recovered           info
store.operation_failed    error    cause
# Several daemons on one database
host.joined               info     name worker others
host.seen                 info     name worker
host.lost                 error    name worker
host.taken_over           warning  deliveries
host.fenced               error    worker killed_processes
host.let_go               error    worker killed_processes
host.cut_off              warning  reason
host.in_touch             info
host.first                info     name
host.failed               error    cause
# Asking Prembly
inquiry.answered          warning  purpose result event_id delivery? stored_event_id? reference
                                   http_status error answer_bytes duration_ms
inquiry.refused           error    http_status pause_s remedy
inquiry.paused            warning  reason pause_s
inquiry.resumed           info
pending.begun             info     count
pending.settled           info     event_id settled_by reference
pending.given_up          warning  event_id reference ask_count error
pending.failed            error    cause
# What is deleted when its retention period has expired
retention.removed         info     removed count freed_bytes
retention.failed          error    cause
erasure.lines_failed      error    cause
# Telling people of trouble
alert.sent                warning  alert kinds items
alert.failed              error    alert kinds outcome exit_code http_status error
alert.look_failed         error    cause
# Checking in, to be missed
checkin.sent              debug    signal
checkin.not_sent          warning  signal http_status error
checkin.withheld          warning  reason
checkin.resumed           info
checkin.failed            error    cause
# The console
console.not_opened        error    reason
console.signed_in         info     session remote_ip
console.sign_in_failed    warning  remote_ip
console.refused           warning  reason remote_ip
console.not_logged        warning  kind count
console.failed            error    cause
"""
Listener = Callable[[str, Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Event:
    """An event of the log: a row of the table."""

    level: Level
    fields: dict[str, bool]  # by name: whether it is left out while it is None


def _event(level: Any, *fields: str) -> Event:
    return Event(level, {name.rstrip("?"): name.endswith("?") for name in fields})


_ROWS = (row.split() for row in re.sub(r"\n +", " ", TABLE).splitlines())
EVENTS = {row[0]: _event(*row[1:]) for row in _ROWS if row and row[0] != "#"}


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
    row = EVENTS[event]
    line: dict[str, Any] = {}
    for name, is_optional in row.fields.items():
        value = fields.get(name)
        if value is not None or not is_optional:
            line[name] = value
    if cause := line.pop("cause", None):
        line["exc_info"] = cause
    output.write("info" if _is_expected(event, fields) else row.level, event, line)


def _is_expected(event: str, fields: Mapping[str, Any]) -> bool:
    """Return whether an event is no warning, because all went well, or because another event has
    made it pointless."""
    if event == "attempt.finished":
        return fields["outcome"] == "succeeded" or fields["state"] in ("cancelled", "skipped")
    return event == "inquiry.answered" and fields["result"] in ("confirmed", "settled", "unsettled")


# None of them may raise or wait: the loop and the writer's thread tell here.
LISTENERS: list[Listener] = [_log]
