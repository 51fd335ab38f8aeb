"""The page of actions: what is configured, and what features know of them."""

from typing import Any

from premblyd.config.keys import value_of
from premblyd.config.models import Action
from premblyd.features.console.handler import Asked, Handler, Panel, Panels
from premblyd.ground import times
from premblyd.ground.words import duration
from premblyd.record import standing


class Actions(Handler):
    """The configured actions, and their results."""

    section = "/actions"

    async def get(self) -> None:
        await self.show_actions()

    async def show_actions(self, **more: Any) -> None:
        """Answer with the page; `more` is for its panels."""
        config, now_ms = self.services.config, self.now_ms
        asked = Asked(config=config, now_ms=now_ms, since_ms=now_ms - times.DAY_MS)
        at_rest, panels = await self.read(
            lambda database: (
                standing.at_rest_in_words(database, now_ms),
                Panels.find(self.section, database, asked),
            )
        )
        configured = {action.name: described(action) for action in config.actions}
        shown = [(template, {**values, **more}) for template, values in panels.shown]
        cards, view = Panel.of("card"), {"configured": configured, **panels.view}
        await self.show("actions.html", view, at_rest=at_rest, cards=cards, panels=shown)


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
