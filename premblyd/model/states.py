"""The states of deliveries, attempts and what is awaited: their words, what moves a delivery from
one to another.
"""

from enum import StrEnum
from typing import NamedTuple


class State(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"  # waits for due_at_ms
    RUNNING = "running"  # its hook runs; due_at_ms is the end of the lease
    SUCCEEDED = "succeeded"
    DEAD = "dead"  # attempts spent, or it can never work; replay puts it back
    CANCELLED = "cancelled"  # an operator stopped it
    SKIPPED = "skipped"  # `once`: another delivery of the same reference and outcome succeeded


class Step(NamedTuple):
    """What may happen to a delivery: who does it, in which states, and in which one it is then."""

    what: str
    who: str
    states: tuple[State, ...]
    then: State


_DAEMON, _OPERATOR = "a daemon", "an operator"
_OPEN = (State.PENDING, State.RUNNING)
FINISHED = (State.SUCCEEDED, State.DEAD, State.CANCELLED, State.SKIPPED)
REPLAY = Step("it is replayed", _OPERATOR, FINISHED, State.PENDING)
TRY_NOW = Step("it is made due now", _OPERATOR, (State.PENDING,), State.PENDING)
CANCEL = Step("it is cancelled", _OPERATOR, (State.PENDING, State.DEAD), State.CANCELLED)
# All that there are: no statement makes another. What is queued begins as pending.
STEPS = (
    Step("its hook starts", _DAEMON, (State.PENDING,), State.RUNNING),
    Step("its hook succeeds", _DAEMON, (State.RUNNING,), State.SUCCEEDED),
    Step("its hook is to run again", _DAEMON, (State.RUNNING,), State.PENDING),
    Step("its hook can't run, or not again", _DAEMON, _OPEN, State.DEAD),
    Step("another has succeeded in its place", _DAEMON, _OPEN, State.SKIPPED),  # `once`
    Step(
        "Prembly has the result by now, or still has none",
        _DAEMON,
        (State.RUNNING,),
        State.CANCELLED,
    ),  # `confirm`
    Step("its person was erased", _DAEMON, (*_OPEN, State.DEAD), State.CANCELLED),
    REPLAY,
    TRY_NOW,
    CANCEL,
)
STOPPED, LOST = "stopped", "lost"  # how a daemon ended, in its row of `host`


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
    ERASED = "erased"  # its person's data were erased: nothing is asked of it any more
