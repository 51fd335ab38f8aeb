"""What the queue and the hooks exchange: what may be claimed, jobs, results and endings."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from premblyd.prembly.payload import StoredEvent
from premblyd.store.states import AttemptOutcome, State

SMALL_BYTES = 64 << 10
LACKS = "the machine lacks "  # so begins the error of a run that could not start, and then what


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One claimed delivery: its hook is to run now. `attempts_left` counts after this one.
    `due_at_ms`: since when it was due, such as since a replay.
    `worker` is the process that claimed it, and `claim_token` the claim's own."""

    delivery_id: int
    attempt_id: int
    attempt: int
    attempts_left: int
    started_at_ms: int
    due_at_ms: int
    action: str
    worker: str
    event: StoredEvent
    group: str | None = None  # the same for those of which one may be due when another ends
    claim_token: str
    idempotency_key: str | None = None  # the same for all that count as one; None: its event alone
    # By gates that let it pass, by their words: which facts of the event each vouches for. None: it
    # has let it pass before, and that can't be read.
    vouched: Mapping[str, tuple[str, ...] | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How one run of a hook ended. `error` is ours: it never quotes the hook or the event.
    `final`: trying again can't help. `retry_after_s`: the receiver asked to wait at least so long.
    `ends_as`: how its delivery ends because the hook of another event runs or has run instead."""

    outcome: AttemptOutcome
    exit_code: int | None = None
    http_status: int | None = None
    error: str | None = None
    output: str | None = None
    output_truncated: bool = False
    final: bool = False
    ends_as: State | None = None
    retry_after_s: float = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What happens to a delivery whose hook ended `at_ms`. Only run/dispatcher.py decides it; the
    queue writes it. `due_at_ms`: when the hook runs again; None: it does not."""

    state: State
    at_ms: int
    due_at_ms: int | None
    attempts_left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimable:
    """What the queue needs to know of an action of the configuration: how many of its hooks may run
    here, their lease and version. `cluster`: how many may run on all hosts. `is_gated`: an attempt
    begins when its gates let it pass, and costs nothing before. `gets_body`: its hook is told the
    body. `runs_erased`: it runs, without a body, also for what is erased."""

    slots: int
    lease_ms: int
    digest: str
    cluster: int | None = None
    takes_turns: bool = False  # see hooks.TURNS
    is_gated: bool = False
    gets_body: bool = True
    runs_erased: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """The room that a claim has: what runs here when it begins, these deliveries (`running`), and
    so many `hooks` of an action, with so many `held_bytes` of large bodies; an action that is not
    named runs none. `limit`: how many more may run, of all actions. `max_bytes`: of all bodies.
    `gates`: how many hooks of a gated action may begin."""

    limit: int
    running: Collection[int] = ()
    hooks: Mapping[str, int] = field(default_factory=dict)
    held_bytes: Mapping[str, int] = field(default_factory=dict)
    max_bytes: int = 1 << 62
    gates: int = 1 << 62


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a claim got, and when the next delivery is due that had a free slot. `passed`: how many
    deliveries it ended without a hook, or held; there may be more. `has_more`: it
    has not looked at all actions yet that have due ones. `is_full`: others wait for a slot."""

    jobs: list[Job]
    next_due_ms: int | None
    passed: int = 0
    has_more: bool = False
    is_full: bool = False


class Due(NamedTuple):
    """A due delivery, as its row has it."""

    due_at_ms: int
    id: int
    action: str
    state: str
    attempt_count: int
    attempts_left: int
    group: str | None
    body_bytes: int
