"""Signing in, by a link or by the password, and out."""

import asyncio
from typing import Any

from premblyd.console import strangers, words
from premblyd.console.handler import Handler, Refused
from premblyd.errors import PremblydError
from premblyd.receive.connection import sender
from premblyd.record import access
from premblyd.record.access import Session
from premblyd.roles import Role
from premblyd.telemetry import tell
from premblyd.words import duration

MAX_PASSWORD = 1024
SPENT = (
    "This link was used before, or is older than ten minutes. `premblyd console` prints another."
)
WRONG = "That is not the password."


class SignIn(Handler):
    """The only page for who is not signed in."""

    is_public = True

    def get(self) -> None:
        link = self.get_query_argument("link", "")
        if self.session is not None and not link:
            self.redirect(self.target, status=303)
        else:
            self._show(link=link)

    async def post(self) -> None:
        """Sign in by what the form holds: a link's token, or the password."""
        if token := self.get_body_argument("link", ""):
            session = await self._by_link(token)
        else:
            session = await self._by_password(self.get_body_argument("password", ""))
        if session is not None:
            tell("console.signed_in", session=session.id, remote_ip=self.remote_ip)
            self.redirect(self.target, status=303)

    @property
    def target(self) -> str:
        """Where to go on after signing in."""
        path = self.get_argument("next", "/")
        return path if strangers.is_safe_target(path) else "/"

    def _show(self, *, link: str = "", mistake: str = "", status: int = 200) -> None:
        self.set_status(status)
        self.render(
            "signin.html",
            link=link,
            mistake=mistake,
            target=self.target,
            has_password=bool(self.services.passwords),
        )

    async def _by_link(self, token: str) -> Session | None:
        session = await self._begin(link=token)
        if session is None:
            self.tell_often("console.sign_in_failed", how="link", remote_ip=self.remote_ip)
            self._show(mistake=SPENT, status=403)
        return session

    async def _by_password(self, password: str) -> Session | None:
        if not self.services.passwords:
            self._show(mistake="No password is set. `premblyd console` prints a link.", status=403)
            return None
        own = sender(self.remote_ip)
        guesses = self.services.guesses
        if wait_s := guesses.wait_s(own):
            self.set_header("Retry-After", str(wait_s))
            self.tell_often("console.sign_in_failed", how="too many", remote_ip=self.remote_ip)
            wait = duration(wait_s * 1000)
            self._show(mistake=f"Too many wrong passwords. Try again in {wait}.", status=429)
            return None
        guesses.add(own)
        fitting = await self._fitting(password)
        if fitting is None:
            self.tell_often("console.sign_in_failed", how="password", remote_ip=self.remote_ip)
            self._show(mistake=WRONG, status=403)
            return None
        guesses.forgive(own)
        return await self._begin(password=fitting)

    async def _begin(self, **proof: Any) -> Session | None:
        """Begin a session of who brings this proof, kept in the browser's cookie."""
        cookie, life_ms = access.new_token(), self.services.settings.session_ms
        begin = access.begin_session(
            cookie, remote_ip=self.remote_ip, now_ms=self.now_ms, life_ms=life_ms, **proof
        )
        session = await self.services.writer.call(begin)
        if session is not None:
            self.set_cookie(self.services.cookie, cookie, max_age=life_ms // 1000)
        return session

    async def _fitting(self, password: str) -> tuple[Role, str] | None:
        """Return whose password this is, and its hash: of the role that may do most, if several
        have it."""
        if len(password) > MAX_PASSWORD:
            return None
        async with self.services.trying:
            for role, expected in self.services.passwords.items():
                if await asyncio.to_thread(expected.fits, password):
                    return role, str(expected)
        return None


class SignOut(Handler):
    """Ends the session at once, on the server too."""

    changing = Role.LOOK

    async def post(self) -> None:
        if self.session is None:
            raise Refused(401, "not_signed_in", words.SIGN_IN)
        if self.session.id is None:
            raise PremblydError(words.BY_PROXY)
        await self.services.writer.call(access.end_session(self.session, self.now_ms))
        self.clear_cookie(self.services.cookie, path="/")
        self.redirect("/sign-in", status=303)
