"""Counts by the hour."""

from peewee import CompositeKey

from premblyd.store.columns import PLAIN, ZERO, Moment, Number, Text
from premblyd.store.table import RollUp


class EventHour(RollUp):
    """The webhooks of an hour that were alike."""

    hour_ms = Moment(PLAIN)
    type = Text(PLAIN)  # empty: none
    response_code = Text(PLAIN)  # empty: missing
    outcome = Text(PLAIN)
    events = Number(PLAIN, constraints=ZERO)
    duplicates = Number(PLAIN, constraints=ZERO)
    unmatched = Number(PLAIN, constraints=ZERO)  # of the events: those without a delivery
    part = Number(PLAIN, constraints=ZERO)  # daemons that count at once do in rows of their own

    class Meta:
        primary_key = CompositeKey("hour_ms", "type", "response_code", "outcome", "part")


class AttemptHour(RollUp):
    """The attempts that ended in an hour, of one action, in the same way, after about as long."""

    hour_ms = Moment(PLAIN)
    action = Text(PLAIN)
    outcome = Text(PLAIN)
    bucket_ms = Number(PLAIN)  # none took longer: see rollups.lower_bound_ms
    attempts = Number(PLAIN, constraints=ZERO)
    part = Number(PLAIN, constraints=ZERO)

    class Meta:
        primary_key = CompositeKey("hour_ms", "action", "outcome", "bucket_ms", "part")


TABLES = (EventHour, AttemptHour)
