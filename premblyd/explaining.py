"""What would happen for a payload: for `premblyd explain` and the console. Nothing is started, sent
or stored, and no secret is shown."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from premblyd.config.models import Action, Config, Endpoint, named
from premblyd.errors import PremblydError
from premblyd.prembly import answers, payload
from premblyd.prembly.payload import Verdict, Webhook
from premblyd.privacy.documents import MASK
from premblyd.privacy.fields import SECRET_VERDICT_FIELDS
from premblyd.queue import once
from premblyd.routing import Routing
from premblyd.run import kinds
from premblyd.run.invocation import Invocation, Preview, of_webhook


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """How a payload would be understood, what would run, and why the rest would not."""

    endpoint: str
    verdict: Mapping[str, Any]
    runs: Mapping[str, Preview]  # by action
    runs_not: Mapping[str, str]  # by action: why

    def as_json(self) -> dict[str, Any]:
        """Return what `premblyd explain --json` prints."""
        return {
            "endpoint": self.endpoint,
            "verdict": self.verdict,
            "actions": [{"action": action} | shown.facts for action, shown in self.runs.items()],
            "not_matched": [
                {"action": action, "reason": reason} for action, reason in self.runs_not.items()
            ],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What it takes to run an action's hook for a payload. `why_not`: why the daemon would not."""

    action: Action
    invocation: Invocation
    why_not: str | None


def trial(
    settings: Config,
    action_name: str,
    body: bytes,
    now_ms: int,
    *,
    endpoint_name: str | None = None,
    key_name: str | None = None,
) -> Trial:
    """Return what it takes to run the hook of an action for `body`. Raise PremblydError when there
    is no action, endpoint or key of that name."""
    action = named("action", action_name, {each.name: each for each in settings.actions})
    endpoint = _endpoint(settings, endpoint_name)
    webhook = _webhook(endpoint, key_name, body, now_ms)
    why_not = Routing(settings.actions).why_not(action, webhook)
    return Trial(action=action, invocation=_invocation(action, webhook), why_not=why_not)


def explain(
    settings: Config,
    body: bytes,
    now_ms: int,
    *,
    endpoint_name: str | None = None,
    key_name: str | None = None,
) -> Explanation:
    """Return what would happen for `body`, as sent to an endpoint and signed with a key, by default
    the first ones. Raise PremblydError when there is none of that name."""
    endpoint = _endpoint(settings, endpoint_name)
    webhook = _webhook(endpoint, key_name, body, now_ms)
    runs: dict[str, Preview] = {}
    runs_not: dict[str, str] = {}
    for judgement in Routing(settings.actions).judge(webhook):
        action = judgement.action
        if judgement.why_not is None:
            is_confirmed = action.confirm is not None
            invocation = _invocation(action, webhook, is_confirmed=is_confirmed)
            shown = _with_once(kinds.preview(action.hook, invocation, endpoint), action, webhook)
            shown = _with_order(shown, action, webhook)
            runs[action.name] = _confirmed(shown, webhook.verdict) if is_confirmed else shown
        else:
            runs_not[action.name] = judgement.why_not
    verdict = {
        name: MASK if value and name in SECRET_VERDICT_FIELDS else value
        for name, value in dataclasses.asdict(webhook.verdict).items()
    }
    return Explanation(endpoint=endpoint.name, verdict=verdict, runs=runs, runs_not=runs_not)


def _confirmed(preview: Preview, verdict: Verdict) -> Preview:
    """Return the preview of a hook that runs when Prembly has confirmed the event. Nothing is
    asked."""
    question = answers.question_about(verdict)
    if question is None:
        what = f"would be dead at once: {answers.NOTHING_TO_ASK_BY}"
    elif question.reference is None:
        what = "would be confirmed by asking Prembly for the session"
    else:
        what = f"would be confirmed by asking Prembly for reference {question.reference}"
    return Preview(facts={"confirm": what, **preview.facts}, lines=[what, *preview.lines])


def _endpoint(settings: Config, name: str | None) -> Endpoint:
    """Return the endpoint called `name`; the first one for None."""
    return named("endpoint", name or None, {each.name: each for each in settings.endpoints})


def _key(endpoint: Endpoint, name: str | None) -> str:
    """Return the name of the endpoint's key, if it has it; of its first key for None."""
    key = name or next(iter(endpoint.keys))
    if key not in endpoint.keys:
        raise PremblydError(
            f"There is no key {key} at the endpoint {endpoint.name};"
            f" it has {', '.join(endpoint.keys)}."
        )
    return key


def _webhook(endpoint: Endpoint, key_name: str | None, body: bytes, now_ms: int) -> Webhook:
    return Webhook(
        endpoint=endpoint.name,
        received_at_ms=now_ms,
        remote_ip="",
        token="stand-in",  # noqa: S106
        headers='[["Content-Type", "application/json"]]',
        body=body,
        verified_by=f"{endpoint.scheme}:{_key(endpoint, key_name)}",
        verdict=payload.read(body, endpoint.fields),
    )


def _invocation(action: Action, webhook: Webhook, *, is_confirmed: bool = False) -> Invocation:
    return of_webhook(
        webhook,
        action.name,
        once_key=once.key_of(webhook.verdict) if action.once else None,
        confirmed_fields=() if is_confirmed else None,
    )


def _with_order(shown: Preview, action: Action, webhook: Webhook) -> Preview:
    """Return what a hook would do, with what its action's `order` says of that."""
    if action.order is None:
        return shown
    if not webhook.verdict.reference:
        note = "waits for nothing: this event has no reference"
    elif action.order.then == "wait":
        note = "waits until those that came before it for this reference have succeeded"
    else:
        note = "waits until those that came before it for this reference are over"
    facts = shown.facts | {"order": action.order.by, "order_note": note}
    return Preview(facts=facts, lines=[*shown.lines, f"order: {note}"])


def _with_once(shown: Preview, action: Action, webhook: Webhook) -> Preview:
    """Return what a hook would do, with what its action's `once` says of that."""
    if action.once is None:
        return shown
    if webhook.verdict.reference:
        note = "skipped if it has succeeded for another event of this reference and outcome"
    else:
        note = "runs each time: this event has no reference"
    facts = shown.facts | {"once": action.once, "once_note": note}
    return Preview(facts=facts, lines=[*shown.lines, f"once: {note}"])
