"""The words of the states in which deliveries, attempts and what is awaited are."""

from enum import StrEnum


class State(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"  # waits for due_at_ms
    RUNNING = "running"  # its hook runs; due_at_ms is the end of the lease
    SUCCEEDED = "succeeded"
    DEAD = "dead"  # attempts spent, or it can never work; replay puts it back
    CANCELLED = "cancelled"  # an operator stopped it
    SKIPPED = "skipped"  # `once`: another delivery of the same reference and outcome succeeded


STOPPED, LOST = "stopped", "lost"  # how a daemon ended, in its row of `host`
FINISHED = (State.SUCCEEDED, State.DEAD, State.CANCELLED, State.SKIPPED)


class AttemptOutcome(StrEnum):
    """How one run of a hook ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    INTERRUPTED = "interrupted"  # the daemon stopped or crashed meanwhile


class AwaitedState(StrEnum):
    """Where an awaited verification stands."""

    WAITING = "waiting"  # Prembly is asked at due_at_ms
    SETTLED = "settled"
    GIVEN_UP = "given_up"
