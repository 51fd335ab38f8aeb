"""On the page of actions: what would happen for a payload."""

from collections.abc import Mapping
from typing import Any

from premblyd.features.console.handler import Asked, Panel
from premblyd.features.console.overview import Actions
from premblyd.features.tryout import explaining
from premblyd.features.tryout.explaining import Explanation
from premblyd.record import standing
from premblyd.store.engine import Database

MAX_LINES = 200


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
            return explaining.explain(config, webhook, standing.at_rest_in_words(database, now_ms))

        explanation = await self.read(explain)
        if self.wants_json:
            await self.send_json(explanation.as_json())
            return
        await self.show_actions(
            explanation=_short(explanation), payload=payload, endpoint=name or ""
        )


def asking(database: Database, asked: Asked) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return what the form has before anything was explained."""
    endpoints = [endpoint.name for endpoint in asked.config.endpoints]
    return {}, {"explanation": None, "payload": "", "endpoint": "", "endpoints": endpoints}


def _short(explanation: Explanation) -> dict[str, Any]:
    return {
        "endpoint": explanation.endpoint,
        "verdict": explanation.verdict,
        "runs": {name: shown.lines[:MAX_LINES] for name, shown in explanation.runs.items()},
        "runs_not": explanation.runs_not,
    }


PAGES = ((r"/actions/explain(?:\.json)?", Explain),)
PANELS = (Panel(page="/actions", template="explain.html", find=asking),)
