"""The states of deliveries, attempts and what is awaited, and other words that the tables have."""

from enum import StrEnum


class State(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"  # waits for due_at_ms
    RUNNING = "running"  # its hook runs; due_at_ms is the end of the lease
    SUCCEEDED = "succeeded"
    DEAD = "dead"  # attempts spent, or it can never work; replay puts it back
    CANCELLED = "cancelled"  # an operator stopped it
    SKIPPED = "skipped"  # `once`: another delivery of the same reference and outcome succeeded


FINISHED = (State.SUCCEEDED, State.DEAD, State.CANCELLED, State.SKIPPED)
CANCELLABLE = (State.PENDING, State.DEAD)
STOPPED, LOST = "stopped", "lost"  # how a daemon ended, in its row of `host`


class AttemptOutcome(StrEnum):
    """How one run of a hook ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    INTERRUPTED = "interrupted"  # the daemon stopped or crashed meanwhile


class RemovedParts(StrEnum):
    """What was deleted of an event. Each part includes those before it."""

    BODY = "body"
    IDENTITY = "identity"  # what named a person
    ERASED = "erased"  # the same, at a person's request: none of this comes back


class AwaitedState(StrEnum):
    """Where an awaited verification stands."""

    WAITING = "waiting"  # Prembly is asked at due_at_ms
    SETTLED = "settled"
    GIVEN_UP = "given_up"
    ERASED = "erased"  # its person's data were erased: nothing is asked of it any more


class Purpose(StrEnum):
    """Why Prembly was asked."""

    CONFIRM = "confirm"  # whether an event is true, before a hook runs
    PENDING = "pending"  # what became of a verification
    RECONCILE = "reconcile"  # for an event that never came


class InquiryResult(StrEnum):
    """What came of one question to Prembly."""

    CONFIRMED = "confirmed"  # the answer says the same as the event
    CONTRADICTED = "contradicted"  # it says something else
    SETTLED = "settled"  # it is final, and was stored as an event
    UNSETTLED = "unsettled"  # Prembly does not know yet either
    NOT_FOUND = "not_found"  # Prembly knows no such verification
    REFUSED = "refused"  # the API key is wrong, or may not ask this
    UNAVAILABLE = "unavailable"  # no answer that can be used; ask again later
