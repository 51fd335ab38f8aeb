"""What all pages of the console share: their surroundings, who may see them, and how they are
sent."""

import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast
from urllib.parse import quote

from tornado.web import HTTPError, RequestHandler

from premblyd.config.models import Config
from premblyd.feature import added
from premblyd.features.console import access, words
from premblyd.features.console.access import Session
from premblyd.features.console.settings import CONSOLE, Console
from premblyd.features.reading.readers import Readers
from premblyd.ground import jsontext
from premblyd.ground.errors import NotFoundError, PremblydError, TryAgainError
from premblyd.ground.telemetry import tell
from premblyd.ground.times import Clock
from premblyd.ground.words import visible
from premblyd.receive.connection import client_ip, peer_ip
from premblyd.receive.evidence import Quota
from premblyd.services import Expose
from premblyd.store.engine import Database
from premblyd.store.writer import Writer

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not no-referrer: with it browsers send `Origin: null` even to the console's own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

LINES_PER_MINUTE = 20  # of each kind that anybody at all can cause
Found = TypeVar("Found")


@dataclass(slots=True, kw_only=True)
class Services:
    """The console's parts, as every handler gets them."""

    readers: Readers
    writer: Writer
    clock: Clock
    wake: Callable[[], None]  # tells the dispatcher that there are deliveries
    path: Path | None  # of the database, if it is a file
    cookie: str  # name of the session's
    expose: Expose | None  # the metrics
    # Of lines of the log, by their names.
    quotas: defaultdict[str, Quota] = field(
        default_factory=lambda: defaultdict(lambda: Quota(LINES_PER_MINUTE))
    )
    config: Config = field(init=False)

    @property
    def settings(self) -> Console:
        """The console's own part of the configuration."""
        console = CONSOLE.of(self.config)
        assert console is not None  # noqa: S101 (there is no console without)
        return console


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What panels are asked for."""

    config: Config
    now_ms: int
    since_ms: int
    period: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A part of a page that is a feature's: PANELS of its pages.py. `find` returns what the page's
    JSON has of it, and what its template has besides."""

    page: str
    template: str
    find: Callable[[Database, Asked], tuple[Mapping[str, Any], Mapping[str, Any]]] | None = None

    @staticmethod
    def of(page: str) -> "list[Panel]":
        """Return the panels of a page, from top to bottom."""
        return [each for each in added("pages", "PANELS") if each.page == page]


@dataclass(slots=True)
class Panels:
    """What the panels of a page have found: `view` in its JSON, `shown` by their templates."""

    view: dict[str, Any] = field(default_factory=dict)
    shown: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    @classmethod
    def find(cls, page: str, database: Database, asked: Asked) -> "Panels":
        panels = cls()
        for panel in Panel.of(page):
            view, more = panel.find(database, asked) if panel.find else ({}, {})
            panels.view |= view
            panels.shown.append((panel.template, {"now_ms": asked.now_ms, **view, **more}))
        return panels


class Refused(PremblydError):
    """A request that the console does not take. The text says what to do instead."""

    def __init__(self, status: int, reason: str, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason


class Handler(RequestHandler):
    """Answers requests for one path. Without sign-in it answers none, unless it `is_public`."""

    is_public: ClassVar[bool] = False
    all_may_send: ClassVar[bool] = False  # False: its forms are for who may operate
    section: ClassVar[str] = ""  # the page of the navigation that it belongs to
    session: Session | None = None

    def initialize(self, services: Services) -> None:
        self.services = services
        self._reader = self.services.readers.for_page()

    async def read(self, work: Callable[[Database], Found]) -> Found:
        """Return what `work` reads or makes: in a thread, for the loop has webhooks to answer.
        Raise TooSlowError when all that this page reads and makes takes too long."""
        return await self._reader.run(work)

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        for name, value in HEADERS.items():
            self.set_header(name, value)

    def prepare(self) -> Awaitable[None] | None:
        return self._admit()

    async def _admit(self) -> None:
        """Let in who may be here. Raise Refused for others."""
        settings = self.services.settings
        if not access.is_own_host(self.request.host, settings):
            raise Refused(421, "host", words.OTHER_HOST)
        is_sent = self.request.method not in ("GET", "HEAD")
        if is_sent and not access.is_own_page(self.request.headers, self.request.host, settings):
            raise Refused(403, "cross_site", words.CROSS_SITE)
        self.session = await self.find_session()
        if self.is_public:
            return
        if self.session is None:
            self._ask_to_sign_in()
        elif is_sent and not (self.may_operate or self.all_may_send):
            raise Refused(403, "role", words.ONLY_LOOKS)

    async def find_session(self) -> Session | None:
        """Return who is signed in, by the proxy or on this browser. Raise Refused for somebody
        whom the proxy lets in and who has no role."""
        proxy = self.services.settings.proxy
        if proxy and (person := access.person_in(self.request.headers, proxy)):
            if (role := proxy.role_of(person)) is None:
                raise Refused(403, "role", words.NO_ROLE)
            return Session(id=None, person=person, role=role, until_ms=None)
        token = self.get_cookie(self.services.cookie)
        if not token:
            return None
        now_ms = self.services.clock.now_ms()
        return await self.read(lambda database: access.find_session(database, token, now_ms))

    def _ask_to_sign_in(self) -> None:
        if self.request.method != "GET" or self.wants_json:
            raise Refused(401, "not_signed_in", words.SIGN_IN)
        target = self.request.uri or "/"
        if not access.is_safe_target(target):
            target = "/"
        if self.request.headers.get("Sec-Fetch-Site") == "cross-site":
            # A link in a chat. No browser sends a SameSite=Strict cookie with that, so let this
            # page open itself once more.
            self.render("opening.html", target=target)
            return
        self.redirect(f"/sign-in?next={quote(target, safe='/')}", status=303)

    @property
    def wants_json(self) -> bool:
        return self.request.path.endswith(".json")

    @property
    def remote_ip(self) -> str:
        """Who sent this request, behind trusted proxies too."""
        peer = peer_ip(cast(Any, self.request.connection))
        return client_ip(peer, self.request.headers, self.services.config.trusted_proxies)

    @property
    def actor(self) -> str:
        """The name in the record for what is done here."""
        assert self.session is not None  # noqa: S101 (_admit)
        return self.session.actor

    @property
    def may_operate(self) -> bool:
        """Whether who is signed in may do more than look."""
        return self.session is not None and self.session.may_operate

    @property
    def now_ms(self) -> int:
        return self.services.clock.now_ms()

    async def show(self, template: str, view: Mapping[str, Any], **more: Any) -> None:
        """Answer with `view`: as a page, which has `more` too, or as JSON where that is asked
        for."""
        if self.wants_json:
            await self.send_json(view)
        else:
            await self.send_page(template, **{**view, **more})

    async def go_on(self, path: str, view: Any) -> None:
        """Go on to a page after a form, or answer with `view` as JSON where that is asked for."""
        if self.wants_json:
            await self.send_json(view)
        else:
            self.redirect(path, status=303)

    async def send_page(self, template: str, **values: Any) -> None:
        """Answer with a page."""
        _ = self.xsrf_token  # sets its cookie: here, for only the loop may
        await self.send(lambda: self.render_string(template, **values))

    async def send_json(self, view: Any) -> None:
        """Answer with `view` as JSON."""
        self.set_header("Content-Type", "application/json; charset=UTF-8")
        await self.send(lambda: jsontext.dumps(view) + b"\n")

    def filters(self, *names: str) -> dict[str, str]:
        """Return what the query has for each name. Raise PremblydError for another name."""
        require_known(self.request.query_arguments, names)
        return {name: self.get_query_argument(name, "") for name in names}

    async def send(self, make: Callable[[], bytes]) -> None:
        """Answer with what `make` makes."""
        self.finish(await self.read(lambda _: make()))

    def get_template_namespace(self) -> dict[str, Any]:
        own = {
            "words": words,
            "session": self.session,
            "may_operate": self.may_operate,
            "section": self.section,
            "console": self.services,
        }
        return {**super().get_template_namespace(), **own}

    def set_cookie(self, name: str, value: str | bytes, *args: Any, **more: Any) -> None:
        """Set a cookie for this console alone: no script reads it, no other site sends it."""
        settings = self.services.settings
        is_secure = (settings.url or "").startswith("https:") and access.is_public_name(
            self.request.host, settings
        )
        strict = {"httponly": True, "samesite": "Strict", "secure": is_secure, "path": "/"}
        super().set_cookie(name, value, *args, **{**more, **strict})

    def write_error(self, status_code: int, **more: Any) -> None:
        error = more.get("exc_info", (None, None))[1]
        message = words.ERRORS.get(status_code, words.FAILED)
        if isinstance(error, PremblydError):
            message = str(error)
        title = HTTPStatus(status_code).phrase
        if self.wants_json:
            self.set_header("Content-Type", "application/json; charset=UTF-8")
            self.finish(jsontext.dumps({"error": message}) + b"\n")
        else:
            self.render("error.html", title=title, message=message, status=status_code)

    def log_exception(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        """Tell the log what went wrong: Tornado's own line would hold the whole URL."""
        if isinstance(error, Refused):
            self.tell_often("console.refused", reason=error.reason, remote_ip=self.remote_ip)
        elif isinstance(error, HTTPError) and error.status_code == 403:
            self.tell_often("console.refused", reason="xsrf", remote_ip=self.remote_ip)
        elif error is not None and not isinstance(error, HTTPError | PremblydError):
            tell("console.failed", cause=error)

    def tell_often(self, event: str, **fields: Any) -> None:
        """Tell the log what anybody at all can cause, within its quota."""
        quota, now = self.services.quotas[event], time.monotonic()
        if count := quota.take_excess(now):
            tell("console.not_logged", kind=event, count=count)
        tell(event, is_logged=quota.allows(now), **fields)

    def send_error(self, status_code: int = 500, **more: Any) -> None:
        error = more.get("exc_info", (None, None))[1]
        match error:
            case Refused():
                status_code = error.status
            case NotFoundError():
                status_code = 404
            case TryAgainError():
                status_code = 503
            case PremblydError():
                status_code = 400
        super().send_error(status_code, **more)


class NothingHere(Handler):
    """A path that leads nowhere. Who is not signed in does not learn even that."""

    def get(self) -> None:
        raise HTTPError(404)

    post = get


def require_known(asked: Iterable[str], names: Collection[str]) -> None:
    """Raise PremblydError for what is none of the filters' names: who mistypes one would take all
    that there is for what was asked for."""
    for name in asked:
        if name not in names:
            shown = visible(name[:40])
            known = ", ".join(names)
            raise PremblydError(f"There is no filter {shown} here. The filters are: {known}.")
