"""The page of actions: what is configured, the results of each, and what would happen for a
payload."""

from typing import Any

from premblyd.config.keys import value_of
from premblyd.config.models import Action
from premblyd.features.console import words
from premblyd.features.console.handler import Handler
from premblyd.features.pause import operating, wording
from premblyd.features.statistics import statistics
from premblyd.features.tryout import explaining
from premblyd.features.tryout.explaining import Explanation
from premblyd.ground import times
from premblyd.ground.errors import PremblydError
from premblyd.ground.words import duration
from premblyd.store.engine import Database

MAX_LINES = 200


class Actions(Handler):
    """The configured actions, and their results."""

    section = "/actions"

    async def get(self) -> None:
        await self.show_actions()

    async def show_actions(self, **more: Any) -> None:
        """Answer with the page; `more` has an explanation, or what is wrong with its payload."""
        config, now_ms = self.services.config, self.now_ms
        names = [action.name for action in config.actions]
        found = await self.read(
            lambda database: statistics.actions(
                database, since_ms=now_ms - times.DAY_MS, now_ms=now_ms, names=names
            )
        )
        configured = {action.name: described(action) for action in config.actions}
        view = {"configured": configured, "actions": found}
        own = {"explanation": None, "payload": "", "now_ms": now_ms, "endpoint": ""}
        endpoints = [endpoint.name for endpoint in config.endpoints]
        await self.show("actions.html", view, endpoints=endpoints, **{**own, **more})


class Explain(Actions):
    """What would happen for a pasted payload: nothing is started, sent or stored."""

    all_may_send = True

    async def get(self) -> None:
        self.redirect("/actions", status=303)

    async def post(self) -> None:
        payload = self.get_body_argument("payload", "", strip=False)
        name = self.get_body_argument("endpoint", "") or None
        config, now_ms = self.services.config, self.now_ms

        def explain(database: Database) -> Explanation:
            webhook = explaining.webhook_of(
                config, payload.encode(), now_ms, endpoint_name=name, key_name=None
            )
            return explaining.explain(config, webhook, wording.sentences(database, now_ms))

        explanation = await self.read(explain)
        if self.wants_json:
            await self.send_json(explanation.as_json())
            return
        await self.show_actions(
            explanation=_short(explanation), payload=payload, endpoint=name or ""
        )


class Pause(Handler):
    """Stops starting an action's hooks, on all hosts, for a time or until it is resumed."""

    section = "/actions"

    async def post(self, action: str) -> None:
        config, now_ms = self.services.config, self.now_ms
        until = self.get_body_argument("until", "")
        try:
            when = operating.read_until(until) if until else None
        except ValueError:
            raise PremblydError(words.UNTIL) from None
        until_ms = operating.until_ms(when, now_ms)
        reason = operating.checked_reason(self.get_body_argument("reason", ""))
        await self.read(lambda database: operating.require_known(database, config, action))
        change = operating.pause(self.actor, action, now_ms, until_ms, reason)
        await self.services.writer.call(change, alone=True)
        view = {"paused": action, "until_ms": until_ms, "reason": reason}
        await self.go_on(f"/actions#a-{action}", view)


class Resume(Handler):
    """Starts a paused action's hooks again."""

    section = "/actions"

    async def post(self, action: str) -> None:
        change = operating.resume(self.actor, action, self.now_ms)
        was_paused = await self.services.writer.call(change, alone=True)
        self.services.wake()
        await self.go_on(f"/actions#a-{action}", {"resumed": was_paused})


def described(action: Action) -> dict[str, Any]:
    """Return what people are shown of an action's configuration: no secret."""
    confirm, order = value_of("confirm", action), value_of("order", action)
    return {
        "response_codes": list(action.response_codes),
        "types": list(action.types),
        "when": action.when.text if action.when else None,
        "hook": action.hook.key,
        "confirm": confirm is not None,
        "unstated": list(confirm.unstated) if confirm else [],
        "once": value_of("once", action),
        "order": order and order.then,
        "attempts": action.retry.attempts,
        "timeout": duration(action.hook.timeout_ms),
        "concurrency": action.concurrency.host,
        "cluster": action.concurrency.cluster,
    }


def _short(explanation: Explanation) -> dict[str, Any]:
    return {
        "endpoint": explanation.endpoint,
        "verdict": explanation.verdict,
        "runs": {name: shown.lines[:MAX_LINES] for name, shown in explanation.runs.items()},
        "runs_not": explanation.runs_not,
    }
