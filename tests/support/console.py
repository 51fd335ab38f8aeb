"""The console as a browser has it: cookies, forms, and links to sign in by."""

import json
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from premblyd.presence import find
from tests.support.commands import run
from tests.support.daemon import Premblyd
from tests.support.requests import Connection

CONSOLE = {"listen": "127.0.0.1:0"}


@dataclass(frozen=True, slots=True)
class Page:
    """What the console answered."""

    status: int
    headers: dict[str, str]
    body: bytes
    cookies: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def location(self) -> str:
        return self.headers["Location"]


class Browser:
    """A browser: it keeps cookies and sends forms with their hidden fields."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.cookies: dict[str, str] = {}

    def request(self, method: str, path: str, body: bytes | None = None, **headers: Any) -> Page:
        """Send a request as a page of the console does; `headers` change its own, None drops one,
        `_` stands for -."""
        own: dict[str, str | None] = {
            "Host": self.address,
            "Sec-Fetch-Site": "same-origin",
            "Origin": f"http://{self.address}" if method == "POST" else None,
            "Cookie": self._cookie_header(),
        }
        own |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = Connection(self.address)
        try:
            given = {name: value for name, value in own.items() if value}
            connection.request(method, path, body, given)
            answer = connection.getresponse()
            page = Page(answer.status, dict(answer.getheaders()), answer.read())
            page.cookies.extend(answer.headers.get_all("Set-Cookie") or [])
        finally:
            connection.close()
        for cookie in page.cookies:
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value.strip('"')
        return page

    def get(self, path: str, **headers: Any) -> Page:
        return self.request("GET", path, **headers)

    def post(self, path: str, fields: dict[str, Any] | None = None, **headers: Any) -> Page:
        """Send a form, with the hidden field that proves that it is the console's."""
        body = urlencode({"_xsrf": self.xsrf(), **(fields or {})}, doseq=True).encode()
        more = {"Content_Type": "application/x-www-form-urlencoded", **headers}
        return self.request("POST", path, body, **more)

    def _cookie_header(self) -> str:
        return "; ".join(f"{name}={value}" for name, value in self.cookies.items())

    def xsrf(self) -> str:
        """Return the hidden field of a form that the console has sent."""
        found = re.search(r'name="_xsrf" value="([^"]+)"', self.get("/sign-in?link=x").text)
        assert found
        return found[1]

    def sign_in(self, link: str) -> Page:
        """Sign in by what `premblyd console` printed."""
        return self.post("/sign-in", {"link": link.partition("link=")[2]})


def new_link(daemon: Premblyd) -> str:
    """Return a link, as `premblyd console` prints it."""
    done = run("console", "--config", daemon.config)
    assert done.code == 0, done.err
    return done.out.strip()


def browser(daemon: Premblyd) -> Browser:
    """Return a browser on the daemon's console, not signed in."""
    presence = find(daemon.place, daemon.config)
    assert presence is not None
    assert presence.console is not None
    return Browser(presence.console)


def signed_in(daemon: Premblyd) -> Browser:
    """Return a browser that is signed in."""
    own = browser(daemon)
    page = own.sign_in(new_link(daemon))
    assert page.status == 303, page.text
    return own


def opened(daemon: Premblyd, *actions: dict[str, Any], **changes: Any) -> Browser:
    """Start a daemon, with these actions if there are any; return a browser that is signed in."""
    if actions:
        daemon.configure(console=CONSOLE, actions=list(actions), **changes)
    return signed_in(daemon.start())
