"""The first page, with what needs attention and numbers; the page of actions; and metrics."""

import functools
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from tornado.web import HTTPError

from premblyd.config.keys import value_of
from premblyd.config.models import Action
from premblyd.features.console import access, words
from premblyd.features.console.handler import Asked, Handler, Panels, Refused
from premblyd.features.reading.standing import at_rest_in_words
from premblyd.features.reading.words import duration
from premblyd.ground import times
from premblyd.ground.errors import PremblydError
from premblyd.record import troubles
from premblyd.record.told import Item, Situation

PERIODS = {"24h": 24, "7d": 7 * 24, "30d": 30 * 24}  # hours


class Overview(Handler):
    """What needs attention now, and the numbers of a period."""

    section = "/"

    async def get(self) -> None:
        period = self.filters("since")["since"] or "24h"
        if period not in PERIODS:
            raise PremblydError(f"`since` should be one of {', '.join(PERIODS)}.")
        now_ms, config = self.now_ms, self.services.config
        since_ms = now_ms - PERIODS[period] * times.HOUR_MS
        asked = Asked(config=config, now_ms=now_ms, since_ms=since_ms, period=period)
        situation = functools.partial(
            Situation,
            now_ms=now_ms,
            settings=config,
            path=self.services.path,
            store_error=self.services.writer.recent_error(),
        )
        items, panels = await self.read(
            lambda database: (
                troubles.items(situation(record=database)),
                Panels.find(self.section, database, asked),
            )
        )
        if self.wants_json:
            attention = [item.as_json() for item in items]
            await self.send_json({"attention": attention, **panels.view})
            return
        await self.send_page(
            "overview.html",
            period=period,
            link=link,
            grave=[item for item in items if item.needs_somebody],
            notices=[item for item in items if not item.needs_somebody],
            panels=panels.shown,
        )


def link(item: Item) -> str | None:
    """Return where to look at what an item is about; None for what no page shows."""
    target = item.target
    if not target.page:
        return None
    filters = target.filters(None if target.since_ms is None else times.iso(target.since_ms))
    page = target.page
    if (page, target.state) == ("deliveries", "dead"):
        page = "dead"
        del filters["state"]
    if target.flag is not None:
        filters[target.flag] = "yes"
    return f"/{page}" + (f"?{urlencode(sorted(filters.items()))}" if filters else "")


class Metrics(Handler):
    """Metrics for Prometheus: for who is signed in, or for all where the configuration says so."""

    async def _admit(self) -> None:
        """Let in whom `metrics` says. Prometheus knows the console by any name, has no browser and
        sends no cookie."""
        match self.services.settings.metrics:
            case "public":
                return
            case "off":
                if access.is_own_host(self.request.host, self.services.settings):
                    self.session = await self.find_session()
                if self.session is None:
                    raise Refused(401, "not_signed_in", words.SIGN_IN)
                raise HTTPError(404)
        await super()._admit()

    def _ask_to_sign_in(self) -> None:
        raise Refused(401, "not_signed_in", words.SIGN_IN)

    async def get(self) -> None:
        if self.services.expose is None:  # nothing counts here
            raise HTTPError(404)
        text, kind = await self.services.expose(self.request.headers.get("Accept", ""))
        self.set_header("Content-Type", kind)
        self.finish(text)

    def write_error(self, status_code: int, **_: object) -> None:
        """Say it in a line: no person reads this."""
        self.set_header("Content-Type", "text/plain; charset=UTF-8")
        hint = "\nFor Prometheus: console: {metrics: public}" if status_code == 401 else ""
        self.finish(f"{HTTPStatus(status_code).phrase}{hint}\n")


class Actions(Handler):
    """The configured actions, and their results."""

    section = "/actions"

    async def get(self) -> None:
        config, now_ms = self.services.config, self.now_ms
        asked = Asked(config=config, now_ms=now_ms, since_ms=now_ms - times.DAY_MS)
        at_rest, panels = await self.read(
            lambda database: (
                at_rest_in_words(database, now_ms),
                Panels.find(self.section, database, asked),
            )
        )
        configured = {action.name: described(action) for action in config.actions}
        view = {"configured": configured, **panels.view}
        await self.show("actions.html", view, at_rest=at_rest, panels=panels.shown)


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
