"""Pausing and resuming on the page of actions."""

from premblyd.features.console.handler import Handler, Panel
from premblyd.features.pause import pauses
from premblyd.ground.errors import PremblydError

UNTIL = (
    "A pause ends at a time such as 2026-01-31T06:00 (UTC), or after a duration such as 30m,"
    " 2h or 7d."
)


class Pause(Handler):
    """Stops starting an action's hooks, on all hosts, for a time or until it is resumed."""

    section = "/actions"

    async def post(self, action: str) -> None:
        config, now_ms = self.services.config, self.now_ms
        until = self.get_body_argument("until", "")
        try:
            when = pauses.read_until(until) if until else None
        except ValueError:
            raise PremblydError(UNTIL) from None
        until_ms = pauses.until_ms(when, now_ms)
        reason = pauses.checked_reason(self.get_body_argument("reason", ""))
        await self.read(lambda database: pauses.require_known(database, config, action))
        change = pauses.pause(self.actor, action, now_ms, until_ms, reason)
        await self.services.writer.call(change, alone=True)
        view = {"paused": action, "until_ms": until_ms, "reason": reason}
        await self.go_on(f"/actions#a-{action}", view)


class Resume(Handler):
    """Starts a paused action's hooks again."""

    section = "/actions"

    async def post(self, action: str) -> None:
        change = pauses.resume(self.actor, action, self.now_ms)
        was_paused = await self.services.writer.call(change, alone=True)
        self.services.wake()
        await self.go_on(f"/actions#a-{action}", {"resumed": was_paused})


PAGES = (
    (r"/actions/([A-Za-z0-9._-]{1,64})/pause(?:\.json)?", Pause),
    (r"/actions/([A-Za-z0-9._-]{1,64})/resume(?:\.json)?", Resume),
)
PANELS = (Panel(page="card", template="pausing.html"),)
