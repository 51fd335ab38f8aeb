"""Signing in by a link, and signing out."""

from premblyd.features.console import access, words
from premblyd.features.console.handler import Handler, Refused
from premblyd.ground.errors import PremblydError
from premblyd.ground.telemetry import tell

SPENT = (
    "This link was used before, or is older than ten minutes. `premblyd console` prints another."
)


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
        """Begin a session of who sends a link's token, kept in the browser's cookie."""
        cookie, life_ms = access.new_token(), self.services.settings.session_ms
        begin = access.begin_session(
            cookie,
            link=self.get_body_argument("link", ""),
            remote_ip=self.remote_ip,
            now_ms=self.now_ms,
            life_ms=life_ms,
        )
        session = await self.services.writer.call(begin)
        if session is None:
            self.tell_often("console.sign_in_failed", remote_ip=self.remote_ip)
            self._show(mistake=SPENT, status=403)
            return
        self.set_cookie(self.services.cookie, cookie, max_age=life_ms // 1000)
        tell("console.signed_in", session=session.id, remote_ip=self.remote_ip)
        self.redirect(self.target, status=303)

    @property
    def target(self) -> str:
        """Where to go on after signing in."""
        path = self.get_argument("next", "/")
        return path if access.is_safe_target(path) else "/"

    def _show(self, *, link: str = "", mistake: str = "", status: int = 200) -> None:
        self.set_status(status)
        self.render("signin.html", link=link, mistake=mistake, target=self.target)


class SignOut(Handler):
    """Ends the session at once, on the server too."""

    all_may_send = True

    async def post(self) -> None:
        if self.session is None:
            raise Refused(401, "not_signed_in", words.SIGN_IN)
        if self.session.id is None:
            raise PremblydError(words.BY_PROXY)
        await self.services.writer.call(access.end_session(self.session, self.now_ms))
        self.clear_cookie(self.services.cookie, path="/")
        self.redirect("/sign-in", status=303)
