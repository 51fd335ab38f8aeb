"""The states of deliveries and attempts, and other words that the tables have."""

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
