"""Actions, endpoints and jobs for the tests of the hooks."""

import json
from pathlib import Path
from typing import Any

from premblyd.config.hooks import KINDS
from premblyd.config.load import models
from premblyd.config.models import Action, Config, Endpoint
from premblyd.config.secrets import SecretPlaces
from premblyd.prembly.payload import StoredEvent, Verdict, Webhook
from premblyd.queue.jobs import Ending, Job
from premblyd.run.kinds import Invocation, of_job
from premblyd.run.starting import FREE, Permit
from premblyd.store.states import State

KEY = "0123456789abcdef0123456789abcdef"
PLACES = SecretPlaces(Path("/nowhere"), {})


def action(name: str = "act", *codes: str, **keys: Any) -> Action:
    """Return an action as the configuration file makes it; without a hook it is `shell: true`."""
    _, model = models()  # which knows all kinds of hooks
    hook = {} if keys.keys() & KINDS.keys() else {"shell": "true"}
    settings = {"name": name, "response_codes": list(codes) or ["*"], **hook, **keys}
    return model.model_validate(settings, context=PLACES)


def hook(**keys: Any) -> Any:
    """Return the hook of an action with these keys; Any, as each runner takes its own kinds."""
    return action(**keys).hook


def settings(*endpoints: Endpoint, concurrency: int = 1, **keys: Any) -> Config:
    """Return a configuration for the runners."""
    keys |= {"database_value": Path("/nowhere"), "endpoints": endpoints}
    model, _ = models()
    return model.model_construct(concurrency=concurrency, **keys)


def endpoint(**keys: Any) -> Endpoint:
    settings = {"name": "prembly", "path": "/p", "keys": {"live": "hush-live-key"}, **keys}
    return Endpoint.model_validate(settings, context=PLACES)


def job(
    body: bytes = b"{}",
    *,
    attempt: int = 1,
    token: str | None = None,
    headers: list[tuple[str, str]] | None = None,
    verified_by: str = "hmac-sha256:live",
    idempotency_key: str | None = None,
    confirmed: tuple[str, ...] | None = None,
    has_body: bool = True,
    is_erased: bool = False,
    **verdict: Any,
) -> Job:
    """Return the job of a delivery; `verdict` holds verdict fields."""
    event = StoredEvent(
        id=17,
        key=KEY,
        endpoint="prembly",
        received_at_ms=1_700_000_000_000,
        remote_ip="192.0.2.7",
        token=token,
        headers=json.dumps(headers or []),
        body=body,
        verified_by=verified_by,
        verdict=Verdict(**verdict),
        has_body=has_body and not is_erased,
        is_erased=is_erased,
    )
    return Job(
        delivery_id=23,
        attempt_id=42,
        attempt=attempt,
        attempts_left=9,
        started_at_ms=event.received_at_ms,
        due_at_ms=event.received_at_ms,
        action="act",
        worker="host:1:boot",
        event=event,
        claim_token="a-claim",
        idempotency_key=idempotency_key,
        vouched={} if confirmed is None else {"confirmed": confirmed},
    )


def invocation(body: bytes = b"{}", *, permit: Permit = FREE, **keys: Any) -> Invocation:
    """Return how the hook of such a job is run."""
    return of_job(job(body, **keys), permit)


def action_of(invocation: Invocation) -> str:
    """Return the action whose hook it is for: its name stands behind an event's key."""
    return invocation.id.partition("-")[2]


def told(invocation: Invocation, name: str) -> object:
    """Return what the hook is told in its environment: PREMBLY_<name>."""
    return invocation.environment[f"PREMBLY_{name}"]


def ending(
    job: Job, state: State, at_ms: int, *, due_at_ms: int | None = None, more_attempts: int = 0
) -> Ending:
    """Return how the run of `job` ends for its delivery."""
    left = job.attempts_left + more_attempts
    return Ending(state=state, at_ms=at_ms, due_at_ms=due_at_ms, attempts_left=left)


def webhook(document: object = None, **verdict: Any) -> Webhook:
    """Return a webhook whose body is `document` as JSON; `verdict` holds verdict fields."""
    return Webhook(
        endpoint="prembly",
        received_at_ms=1_700_000_000_000,
        remote_ip="192.0.2.7",
        token=None,
        headers="[]",
        body=json.dumps(document).encode(),
        verified_by="hmac-sha256:live",
        verdict=Verdict(**verdict),
    )
