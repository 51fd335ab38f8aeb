"""What passes between the queue and the hooks: jobs out, results back."""

from dataclasses import dataclass

from premblyd.prembly.payload import Verdict
from premblyd.store.models import AttemptOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """An event as its hooks get it."""

    id: int
    key: str
    endpoint: str
    received_at_ms: int
    token: str | None
    headers: str
    body: bytes
    verified_by: str
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One claimed delivery: its hook is to run now. `attempts_left` counts after this one."""

    delivery_id: int
    attempt_id: int
    attempt: int
    attempts_left: int
    action: str
    event: StoredEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How one run of a hook ended. `error` is ours: it never quotes the hook or the event.

    `final`: trying again can't help. `retry_after_s`: the receiver asked for at least this.
    """

    outcome: AttemptOutcome
    exit_code: int | None = None
    http_status: int | None = None
    error: str | None = None
    output: str | None = None
    output_truncated: bool = False
    final: bool = False
    retry_after_s: float = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimable:
    """An action in the eyes of the queue: its free slots, lease and version."""

    slots: int
    lease_ms: int
    digest: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a claim got, and when the next delivery is due that had a free slot."""

    jobs: list[Job]
    next_due_ms: int | None
