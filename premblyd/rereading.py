"""Reading an event anew by the rules of this premblyd: what another one called verified may be
unknown now. The row stays as it is.

That is done wherever an event decides whose `doubt` is NULL: it was stored by a premblyd that did
not look whether a body agrees with itself. And before Prembly is asked to confirm any event.
"""

from dataclasses import replace
from typing import Any

from premblyd.config.models import Action, Config
from premblyd.model.states import AttemptOutcome
from premblyd.prembly import answers, events, payload
from premblyd.prembly.payload import Outcome, StoredEvent, Verdict
from premblyd.queue.jobs import Job, Result
from premblyd.routing import Routing

# What decides. All else stays as it is stored: keys and lists were made of it.
_DECIDING = ("type", "response_code", "verification_status", "outcome", "face_match")


UNREADABLE = (
    "an earlier premblyd stored its event as verified, and did not look whether its body agrees"
    " with itself; that body is gone"
)


def unreadable(event: StoredEvent) -> str | None:
    """Return why nobody can rely on what is stored of an event: it says verified, and whether its
    body agreed can't be found out any more."""
    is_unread = event.verdict.doubt is None and not event.has_body
    return UNREADABLE if is_unread and event.verdict.outcome is Outcome.VERIFIED else None


class Rereading:
    """Reads events as one configuration says where their fields are."""

    def __init__(self, settings: Config) -> None:
        self._places = {endpoint.name: endpoint.fields for endpoint in settings.endpoints}
        self._answers = settings.prembly.status.fields if settings.prembly else {}
        self.routing = Routing(settings.actions)

    def event(self, event: StoredEvent) -> StoredEvent:
        """Return `event` as its body is read now; as it is stored, where that is gone."""
        if not event.has_body:
            return event
        now = self.verdict(event.endpoint, event.verified_by, event.body)
        changes: dict[str, Any] = {name: getattr(now, name) for name in _DECIDING}
        verdict = replace(event.verdict, doubt=now.doubt or "", **changes)
        return replace(event, verdict=verdict)

    def verdict(self, endpoint: str, verified_by: str, body: bytes) -> Verdict:
        """Return what the body of an event says now."""
        if verified_by == events.STORED_BY:
            stated = answers.read(body, self._answers)
            return stated.verdict if stated else Verdict(type=events.STATUS)
        return payload.read(body, self._places.get(endpoint))

    def job(self, action: Action, job: Job) -> Job | Result:
        """Return the job with its event as that is read now; or the end of its run, where the event
        is another one than that for which `action` was chosen, and the action is not for it."""
        if (unread := unreadable(job.event)) is not None:
            return Result(outcome=AttemptOutcome.FAILED, error=unread, final=True)
        event = self._with_confirmed(job, self.event(job.event))
        changed = [
            name
            for name in _DECIDING
            if getattr(event.verdict, name) != getattr(job.event.verdict, name)
        ]
        if changed and (why_not := self.routing.why_not(action, event)) is not None:
            doubt = f" (doubt: {event.verdict.doubt})" if event.verdict.doubt else ""
            words = f"its body says another {' and '.join(changed)} than was stored{doubt}"
            return Result(outcome=AttemptOutcome.FAILED, error=f"{words}, so {why_not}", final=True)
        event.drop_document()
        return replace(job, event=event)

    @staticmethod
    def _with_confirmed(job: Job, event: StoredEvent) -> StoredEvent:
        """Return `event` with what Prembly confirmed of it before an earlier attempt."""
        confirmed: dict[str, Any] = {
            name: getattr(job.event.verdict, name)
            for name in _DECIDING
            if name in job.confirmed_fields
        }
        return replace(event, verdict=replace(event.verdict, **confirmed)) if confirmed else event
