"""What would happen for a payload. Nothing is started, sent or stored, and no secret is shown."""

import dataclasses
import os
import pkgutil
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from premblyd.config.hooks import SIGNING_PREFIX, CommandHook, HttpHook, ShellHook
from premblyd.config.keys import value_of
from premblyd.config.models import Action, Config, Endpoint
from premblyd.config.routing import Routing
from premblyd.config.secrets import Secret
from premblyd.config.values import Model
from premblyd.feature import added
from premblyd.ground.errors import PremblydError
from premblyd.ground.expressions import Budget
from premblyd.ground.privacy import MASK, SECRET_VERDICT_FIELDS
from premblyd.prembly import payload
from premblyd.prembly.payload import Webhook
from premblyd.queue.hooks import of_features
from premblyd.run.http import BodyError, make_request
from premblyd.run.kinds import NOT_STORED, Invocation, of_webhook
from premblyd.run.shell import command_line, environment

T = TypeVar("T")
M = TypeVar("M", bound=Model)
PREVIEW_BYTES = 2000
# Signs in a preview, in place of the real secret; the signature is masked there.
STAND_IN = Secret("stand-in", SIGNING_PREFIX + "A" * 24)
# Headers of an http hook whose value is masked, besides the endpoint's signature header.
MASKED_REQUEST_HEADERS = frozenset({"webhook-signature", "token"})
CONFIRMED = "would be confirmed by asking Prembly first"


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """How a payload would be understood, what would run, and why the rest would not."""

    endpoint: str
    verdict: Mapping[str, Any]
    runs: Mapping[str, dict[str, Any]]  # by action: what its hook would do
    runs_not: Mapping[str, str]  # by action: why

    def as_json(self) -> dict[str, Any]:
        """Return what `premblyd explain --json` prints."""
        return {
            "endpoint": self.endpoint,
            "verdict": self.verdict,
            "actions": [{"action": action} | shown for action, shown in self.runs.items()],
            "not_matched": [
                {"action": action, "reason": reason} for action, reason in self.runs_not.items()
            ],
        }


def webhook_of(
    settings: Config, body: bytes, now_ms: int, *, endpoint_name: str | None, key_name: str | None
) -> Webhook:
    """Return the webhook that `body` would be, as sent to an endpoint and signed with a key, the
    first ones for None. Raise PremblydError when there is none of that name."""
    endpoint = _endpoint(settings, endpoint_name)
    key = key_name or next(iter(endpoint.keys))
    if key not in endpoint.keys:
        raise PremblydError(
            f"There is no key {key} at the endpoint {endpoint.name};"
            f" it has {', '.join(endpoint.keys)}."
        )
    return Webhook(
        endpoint=endpoint.name,
        received_at_ms=now_ms,
        remote_ip="",
        token="stand-in",  # noqa: S106
        headers='[["Content-Type", "application/json"]]',
        body=body,
        verified_by=f"{endpoint.forms[0].scheme}:{key}",
        verdict=payload.read(body, endpoint.fields),
    )


def explain(settings: Config, webhook: Webhook) -> Explanation:
    """Return what would happen for a webhook."""
    endpoint = _endpoint(settings, webhook.endpoint)
    runs: dict[str, dict[str, Any]] = {}
    runs_not: dict[str, str] = {}
    routing, budget = Routing(settings.actions), Budget()  # shared by all actions
    for action in settings.actions:
        if (why_not := routing.why_not(action, webhook, budget)) is None:
            runs[action.name] = _preview(action, webhook, endpoint)
        else:
            runs_not[action.name] = why_not
    verdict = {
        name: MASK if value and name in SECRET_VERDICT_FIELDS else value
        for name, value in dataclasses.asdict(webhook.verdict).items()
    }
    return Explanation(endpoint=endpoint.name, verdict=verdict, runs=runs, runs_not=runs_not)


def _preview(action: Action, webhook: Webhook, endpoint: Endpoint) -> dict[str, Any]:
    """Return what the hook would do, and what is asked before. Prembly is not asked."""
    is_confirmed = value_of("confirm", action) is not None
    invocation = invocation_of(action, webhook, is_confirmed=is_confirmed)
    shown = _of_hook(action.hook, invocation, endpoint)
    return {"confirm": CONFIRMED, **shown} if is_confirmed else shown


def invocation_of(action: Action, webhook: Webhook, *, is_confirmed: bool = False) -> Invocation:
    """Return what it takes to run an action's hook for a webhook."""
    return of_webhook(
        webhook,
        action.name,
        NOT_STORED if value_of("once", action) and webhook.verdict.reference else None,
        dict.fromkeys(of_features("VOUCHED"), ()) if is_confirmed else {},
    )


def _endpoint(settings: Config, name: str | None) -> Endpoint:
    """Return the endpoint called `name`; the first one for None."""
    return named("endpoint", name or None, {each.name: each for each in settings.endpoints})


def named(what: str, name: str | None, choices: Mapping[str, T]) -> T:
    """Return what of a configuration is called `name`; the first for None. Raise PremblydError for
    a name that it does not have."""
    if name is None:
        return next(iter(choices.values()))
    if name not in choices:
        has = ", ".join(choices) or "none"
        raise PremblydError(f"There is no {what} {name}; the configuration has {has}.")
    return choices[name]


def _of_hook(hook: Any, invocation: Invocation, endpoint: Endpoint) -> dict[str, Any]:
    """Return what running a hook would do: with secrets masked, which need not have been looked up.
    Features say it of their kinds (PREVIEWS in their kinds.py)."""
    shown = masked(hook)
    match shown:
        case ShellHook() | CommandHook():
            return _of_process(shown, invocation)
        case HttpHook():
            return _of_http(shown, invocation, masked(endpoint))
    show = pkgutil.resolve_name(dict(added("kinds", "PREVIEWS"))[type(hook)])
    found: dict[str, Any] = show(shown, invocation)
    return found


def _of_process(hook: ShellHook | CommandHook, invocation: Invocation) -> dict[str, Any]:
    """Return the exact command and environment."""
    return {
        "command": command_line(hook),
        "environment": environment(hook, invocation.environment, os.environ),
        "stdin_bytes": len(invocation.body),
    }


def _of_http(hook: HttpHook, invocation: Invocation, endpoint: Endpoint) -> dict[str, Any]:
    """Return the exact request, or why it can't be made."""
    if hook.sign_with:
        hook = hook.model_copy(update={"sign_with": STAND_IN})
    try:
        request = make_request(hook, invocation, endpoint, time.time())
    except BodyError as error:
        return {"error": str(error)}
    private = {*MASKED_REQUEST_HEADERS, *(form.header.lower() for form in endpoint.forms)}
    headers = {name: MASK if name.lower() in private else value for name, value in request.headers}
    return {
        "url": re.sub(r"//[^/]*@", f"//{MASK}@", request.url),  # without its login
        "headers": headers,
        "body_bytes": len(request.body),
        "body": request.body[:PREVIEW_BYTES].decode("utf-8", "replace"),
    }


def masked(model: M) -> M:
    """Return the hook or endpoint with a mask for the value of every secret, looked up or not. A
    URL that the configuration gives as text is shown."""
    return model.model_copy(update={name: _mask(value) for name, value in model})


def _mask(value: Any) -> Any:
    match value:
        case Secret(source="text") if value.value and value.value.startswith("http"):
            return value
        case Secret():
            return Secret(value.source, f"{MASK} ({value.source})")
        case dict():
            return {name: _mask(item) for name, item in value.items()}
        case Model():
            return masked(value)
        case _:
            return value
