"""Who is signed in, and ending that. Those whom a proxy signs in are its own to sign out."""

from premblyd.console.handler import Handler
from premblyd.errors import NotFoundError
from premblyd.record import access
from premblyd.roles import Role


class Sessions(Handler):
    """The sessions: only for those who may end them."""

    section = "/operators"
    reading = Role.OPERATE

    async def get(self) -> None:
        now_ms = self.now_ms
        rows = await self.read(lambda database: access.sessions(database, now_ms))
        await self.show("sessions.html", {"sessions": rows})


class End(Handler):
    """Ends a session at once: what it asks next, it asks as a stranger."""

    section = "/operators"

    async def post(self, session_id: str) -> None:
        change = access.end_sessions({int(session_id)}, self.actor, self.now_ms)
        ended = await self.services.writer.call(change)
        if not ended:
            raise NotFoundError("There is no such session any more.")
        await self.go_on("/sessions", {"ended": ended})
