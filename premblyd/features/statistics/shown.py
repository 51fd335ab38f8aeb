"""Troubles that are seen by the counts of hours: events that match no action, and actions that run
rarely and keep failing."""

from collections import Counter
from collections.abc import Iterator, Mapping

from peewee import fn

from premblyd.config.routing import Routing
from premblyd.features.statistics import statistics
from premblyd.features.statistics.hooks import hour_of, rolled_code
from premblyd.features.statistics.tables import EventHour
from premblyd.ground.words import counted
from premblyd.prembly import samples
from premblyd.record import queries
from premblyd.record.told import Item, Severity, Situation, Target, largest, trouble
from premblyd.record.troubles import FAILED, code_filter, named
from premblyd.store.states import AttemptOutcome
from premblyd.store.tables import Delivery, Event

LAST_TRIED = 500  # events: where those of `premblyd send` are looked for


@trouble(passes=False)
def unmatched(situation: Situation) -> Iterator[Item]:
    query = (
        EventHour.select(EventHour.response_code, fn.SUM(EventHour.unmatched))
        .where(EventHour.hour_ms >= hour_of(situation.since_ms), EventHour.unmatched > 0)
        .group_by(EventHour.response_code)
    )
    routing = Routing(situation.settings.actions) if situation.settings else None
    found = largest(dict(queries.tuples(situation.database, query)))
    tried = _tried(situation) if found else {}
    for code, count in found:
        # Where an action is for the code, its `types` or `when` left these out: that was wanted.
        is_meant = routing is not None and bool(routing.actions_for_code(code or None))
        is_trial = tried.get(code, 0) >= count
        yield Item(
            severity=Severity.NOTICE if is_meant or is_trial else Severity.WARNING,
            text=f"{counted(count, 'event')} with {named(code)} matched no action:"
            + (
                " `types` or `when` excluded them from the action for their code, or it was added"
                " later."
                if is_meant
                else f" stored, and nothing ran.{' `premblyd send` sent it.' if is_trial else ''}"
            ),
            remedy="Nothing to do, if that is what you want. Otherwise: `premblyd replay --action"
            " NAME --since 24h --new`."
            if is_meant
            else "Add an action for them (`default` is for every code that no other action names),"
            " reload, then `premblyd replay --action NAME --since 24h --new`.",
            target=Target(page="events", code=code_filter(code), since_ms=situation.since_ms),
            count=count,
        )


def _tried(situation: Situation) -> Counter[str]:
    """Count by their codes those of the newest events that `premblyd send` sent for no action."""
    query = Event.select(Event.id, Event.response_code, Event.token, Event.received_at_ms)
    newest = queries.tuples(situation.database, query.order_by(Event.id.desc()).limit(LAST_TRIED))
    since_ms = hour_of(situation.since_ms)
    codes = {
        number: rolled_code(code)
        for number, code, token, at_ms in newest
        if (token or "").startswith(samples.SENDER) and at_ms >= since_ms
    }
    matched = Delivery.select(Delivery.event).where(Delivery.event.in_(list(codes)))
    for (number,) in queries.tuples(situation.database, matched):
        codes.pop(number, None)
    return Counter(codes.values())


def failures(situation: Situation) -> Mapping[str, int]:
    """Return by action how many attempts failed, where none succeeded: an action that runs rarely
    is not among the last attempts of busy ones."""
    attempts, _ = statistics.attempts_of(situation.database, situation.since_ms)
    return {
        action: sum(outcomes.get(outcome, 0) for outcome in FAILED)
        for action, outcomes in attempts.items()
        if AttemptOutcome.SUCCEEDED not in outcomes
    }


TROUBLES = (unmatched,)
FAILURES = (failures,)
