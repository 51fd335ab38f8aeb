"""What passes between the queue and the hooks: jobs out, results and endings back."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from premblyd.model.states import AttemptOutcome, State
from premblyd.prembly.payload import StoredEvent

SMALL_BYTES = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One claimed delivery: its hook is to run now. `attempts_left` counts after this one.
    `worker` is the process that claimed it, and `claim_token` the claim's own."""

    delivery_id: int
    attempt_id: int
    attempt: int
    attempts_left: int
    started_at_ms: int
    action: str
    worker: str
    event: StoredEvent
    order_key: str | None = None  # with `order`: the same for all that wait for each other
    claim_token: str
    once_key: str | None = None  # with `once`: the same for all events it runs once for
    is_confirmed: bool = False  # by Prembly, whose answer agrees with the event
    confirmed_fields: tuple[str, ...] = ()  # the facts that its answer states

    def without_body(self) -> "Job":
        """Return the job for those who don't need its body, so that they don't keep it."""
        return replace(self, event=replace(self.event, body=b""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How one run of a hook ended. `error` is ours: it never quotes the hook or the event.

    `final`: trying again can't help. `retry_after_s`: the receiver asked for at least this.
    `ends_as`: how its delivery ends because of another event, whose hook runs or has run instead.
    """

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
    """What becomes of a delivery whose hook ended `at_ms`. run/ending.py alone decides it; the
    queue writes it down. `due_at_ms`: when the hook runs again; None: it does not."""

    state: State
    at_ms: int
    due_at_ms: int | None
    attempts_left: int

    @property
    def finished_at_ms(self) -> int | None:
        """When the delivery left the queue; None: it is still there."""
        return self.at_ms if self.due_at_ms is None else None


def counted_bytes(body_bytes: int) -> int:
    """Return what a body takes of the room for bodies. Small ones don't count: the number of hooks
    bounds them, and they never wait for large ones."""
    return body_bytes if body_bytes > SMALL_BYTES else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimable:
    """What the queue needs to know of an action of the configuration: how many of its hooks may run
    here, their lease and version. `cluster`: how many may run on all hosts. `confirm`: an attempt
    begins when its event is confirmed, and costs nothing before."""

    slots: int
    lease_ms: int
    digest: str
    cluster: int | None = None
    once: bool = False  # for each reference and outcome
    confirm: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What runs here when a claim begins: how many `hooks` of an action, with so many `held_bytes`
    of large bodies; an action that is not named runs none. `max_bytes`: of all. `confirmable`: how
    many hooks of an action with `confirm` may begin."""

    hooks: Mapping[str, int] = field(default_factory=dict)
    held_bytes: Mapping[str, int] = field(default_factory=dict)
    max_bytes: int = 1 << 62
    confirmable: int = 1 << 62


IDLE = Load()


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a claim got, and when the next delivery is due that had a free slot. `passed`: how many
    deliveries it ended without a hook, or held because of `once`; there may be more. `has_more`: it
    has not looked at all actions yet that have due ones."""

    jobs: list[Job]
    next_due_ms: int | None
    passed: int = 0
    has_more: bool = False
