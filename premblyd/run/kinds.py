"""The kinds of hooks: what every runner has, and which one runs which kind; and what a hook is run
with, for a delivery, an alert, `try` or `explain`."""

import json
import pkgutil
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from premblyd.config.hooks import CommandHook, Hook, HttpHook, ShellHook
from premblyd.config.models import Config
from premblyd.feature import added
from premblyd.prembly import bodies
from premblyd.prembly.payload import Webhook
from premblyd.queue.hooks import of_features
from premblyd.queue.jobs import Job, Result
from premblyd.run.process import Children
from premblyd.run.starting import FREE, Permit

H_contra = TypeVar("H_contra", bound=Hook, contravariant=True)
NOT_STORED = "0" * 32  # in place of the key of an event, or of all that count as one


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """One run of a hook: what it gets, and `permit`: whether it may start and go on.

    `action`: the one with the hook; an alert's is its own. `id`: the same each time for the same.
    `environment`: what a process has of it; None is
    empty. `webhook`: what it is about, with the number and key of its event; None: no webhook.
    `vouched`: by the words of all gates, which facts each vouches for; None: it was not asked.
    `is_erased`: its person was erased, so nothing that names anybody is left to be told.
    """

    action: str
    id: str
    body: bytes
    environment: Mapping[str, object]
    webhook: Webhook | None = None
    event_id: int = 0
    event_key: str = NOT_STORED
    vouched: Mapping[str, tuple[str, ...] | None] = field(default_factory=dict)
    is_erased: bool = False
    permit: Permit = FREE

    @property
    def content_type(self) -> str:
        """The body's."""
        headers = json.loads(self.webhook.headers) if self.webhook else []
        return str(dict(headers).get("Content-Type", "application/json"))

    def context(self) -> dict[str, Any]:
        """Return what `select` sees."""
        return self.webhook.context() if self.webhook else {"body": bodies.parse(self.body)}


def of_job(job: Job, permit: Permit = FREE) -> Invocation:
    """Return how the hook of a claimed delivery is run."""
    return of_webhook(job.event, job.action, job.idempotency_key, job.vouched, job, permit)


def of_webhook(
    webhook: Webhook,
    action: str,
    idempotency_key: str | None,
    vouched: Mapping[str, tuple[str, ...] | None],
    job: Job | None = None,
    permit: Permit = FREE,
) -> Invocation:
    """Return how the hook of `action` is run for a webhook. Without a `job` that is not stored."""
    event_id, event_key = (job.event.id, job.event.key) if job else (0, NOT_STORED)
    verdict = webhook.verdict
    vouched = {name: vouched.get(name) for name in of_features("VOUCHED")}
    is_erased = job is not None and job.event.is_erased
    environment = {
        "PREMBLY_EVENT": event_id,
        "PREMBLY_EVENT_KEY": event_key,
        "PREMBLY_DELIVERY": job.delivery_id if job else 0,
        **dict.fromkeys(of_features("TOLD"), idempotency_key),
        "PREMBLY_ATTEMPT": job.attempt if job else 1,
        "PREMBLY_WORKER": job.worker if job else "",
        "PREMBLY_ENDPOINT": webhook.endpoint,
        "PREMBLY_KIND": verdict.kind,
        "PREMBLY_TYPE": verdict.type,
        "PREMBLY_RESPONSE_CODE": verdict.response_code,
        "PREMBLY_STATUS": verdict.status,
        "PREMBLY_OUTCOME": verdict.outcome,
        "PREMBLY_REFERENCE": verdict.reference,
        "PREMBLY_USER_REF": verdict.user_ref,
        "PREMBLY_FACE_MATCH": verdict.face_match,
        "PREMBLY_FACE_CONFIDENCE": verdict.face_confidence,
        "PREMBLY_RISK_LEVEL": verdict.risk_level,
        "PREMBLY_RISK_SCORE": verdict.risk_score,
        "PREMBLY_DOUBT": verdict.doubt,
        "PREMBLY_TRACEPARENT": webhook.traceparent,
        "PREMBLY_ERASED": 1 if is_erased else None,
    }
    for name, facts in vouched.items():
        environment[f"PREMBLY_{name.upper()}"] = None if facts is None else True
        environment[f"PREMBLY_{name.upper()}_FIELDS"] = ",".join(facts or ())
    return Invocation(
        action=action,
        id=f"{idempotency_key or event_key}-{action}",
        body=webhook.body,
        environment=environment,
        webhook=webhook,
        event_id=event_id,
        event_key=event_key,
        vouched=vouched,
        is_erased=is_erased,
        permit=permit,
    )


class Runner(Protocol[H_contra]):
    """Runs the hooks of one kind, or of kinds that are alike. The daemon has one of each."""

    def __init__(self, children: Children) -> None:
        """Make the runner. It makes the processes that it starts known in `children`."""

    def configure(self, settings: Config) -> None:
        """Use these settings from the next run on. What stays running for an action whose hook is
        the same goes on; that of others ends in good order."""

    async def run(self, hook: H_contra, invocation: Invocation) -> Result:
        """Run the hook once. Never raise for a hook that fails, and keep the body no longer than is
        needed: it may be large. Start by `Patience.run`, ask `permit.require` at the last moment,
        and end as `permit.ends_by` says."""

    def interrupt(self) -> None:
        """End all that runs, and start nothing more. What is ended counts as interrupted."""

    def close(self) -> None:
        """Give back what the runner holds. Nothing runs any more."""


# Where the class of each kind's runner is: it is imported for the first action with such a hook.
RUNNERS: dict[type[Hook], str] = {
    ShellHook: "premblyd.run.shell:ShellRunner",
    CommandHook: "premblyd.run.shell:ShellRunner",
    HttpHook: "premblyd.run.http:HttpRunner",
    **dict(added("kinds", "KINDS")),
}


def runner_of(kind: type[Hook]) -> type[Runner[Any]]:
    """Return the class that runs hooks of this kind."""
    found: type[Runner[Any]] = pkgutil.resolve_name(RUNNERS[kind])
    return found


class Runners:
    """The runners of a daemon: one is made for the first action, or alert, that needs it."""

    def __init__(self, children: Children) -> None:
        self._children = children
        self._settings: Config | None = None
        self._by_kind: dict[type[Hook], Runner[Any]] = {}
        self._interrupted = False

    def need(self, kinds: Iterable[type[Hook]]) -> None:
        """Make those that hooks of these kinds need. Raise OSError, RuntimeError or MemoryError,
        when the machine lacks something for that."""
        for kind in {*kinds} - self._by_kind.keys():
            wanted = runner_of(kind)
            made = {type(each): each for each in self._by_kind.values()}
            self._by_kind[kind] = made.get(wanted) or self._make(wanted)

    def configure(self, settings: Config) -> None:
        self._settings = settings
        for runner in {*self._by_kind.values()}:
            runner.configure(settings)

    def run(self, hook: Hook, invocation: Invocation) -> Awaitable[Result]:
        """Run the hook once, by the runner of its kind."""
        if type(hook) not in self._by_kind:
            self.need([type(hook)])
        return self._by_kind[type(hook)].run(hook, invocation)

    def _make(self, wanted: type[Runner[Any]]) -> Runner[Any]:
        runner = wanted(self._children)
        if self._settings is not None:
            runner.configure(self._settings)
        if self._interrupted:
            runner.interrupt()
        return runner

    def interrupt(self) -> None:
        self._interrupted = True
        for runner in {*self._by_kind.values()}:
            runner.interrupt()

    def close(self) -> None:
        for runner in {*self._by_kind.values()}:
            runner.close()
