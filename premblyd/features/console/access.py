"""Who may use the console. Links sign in once, and begin sessions: whoever may write the record may
make a link, and the record has only digests of tokens.

Strangers are kept out: requests that another site makes a browser send, requests under another host
name (DNS rebinding), or in the proxy's name.
"""

import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from tornado.httputil import HTTPHeaders

from premblyd.features.console.settings import SECRET_HEADER, Console, Role, SignInProxy
from premblyd.features.console.tables import ConsoleToken
from premblyd.record import queries
from premblyd.record.operating import Change, write_down
from premblyd.store.engine import Database, Statement, Transaction, insert, param, update

LINK_LIFE_MS = 10 * 60_000
TOKEN_BYTES = 32
LINK, SESSION = "link", "session"

_ADD_LINK = insert(ConsoleToken, "kind", "digest", "actor", "role", "since_ms", "until_ms")
# A link becomes its session, so that it is used once.
_BEGIN = update(
    ConsoleToken,
    *("kind", "digest", "remote_ip", "since_ms", "until_ms"),
    where=(ConsoleToken.digest == param("link"))
    & (ConsoleToken.kind == LINK)
    & (ConsoleToken.until_ms > param("since_ms")),
)
_OWN = ConsoleToken.select(
    ConsoleToken.id, ConsoleToken.actor, ConsoleToken.role, ConsoleToken.until_ms
).where(ConsoleToken.kind == SESSION)
_BEGUN = Statement(_OWN.where(ConsoleToken.digest == param("digest")))
_SESSIONS = Statement(_OWN.where(ConsoleToken.until_ms > param("now_ms")))
_END = Statement(ConsoleToken.delete().where(ConsoleToken.id == param("session_id")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Somebody who is signed in. Without an id, a proxy says so at each request."""

    id: int | None
    person: str
    role: Role
    until_ms: int | None

    @property
    def may_operate(self) -> bool:
        return self.role is Role.OPERATE

    @property
    def actor(self) -> str:
        """The name in the record for what is done in this session."""
        session = "console, by the proxy" if self.id is None else f"console session {self.id}"
        role = "" if self.may_operate else f", may {self.role}"
        return f"{self.person} ({session}{role})"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRow:
    """Somebody who is signed in, in a list."""

    id: int
    actor: str
    role: str
    remote_ip: str
    since_ms: int
    until_ms: int


def new_token() -> str:
    """Return a secret that nobody guesses: of a link, or of a session's cookie."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def offer_link(token: str, person: str, role: Role, now_ms: int) -> Change[None]:
    """Let whoever brings `token` sign in as `person`, once, within LINK_LIFE_MS."""

    def offer(transaction: Transaction) -> None:
        transaction.insert(
            _ADD_LINK,
            kind=LINK,
            digest=_digest(token),
            actor=person,
            role=role,
            since_ms=now_ms,
            until_ms=now_ms + LINK_LIFE_MS,
        )

    return offer


def begin_session(
    session_token: str, *, link: str, remote_ip: str, now_ms: int, life_ms: int
) -> Change[Session | None]:
    """Begin a session of who brings the token of a link, which that uses up. None: there is no such
    link (any more)."""

    def begin(transaction: Transaction) -> Session | None:
        digest = _digest(session_token)
        if not transaction.change(
            _BEGIN,
            link=_digest(link),
            kind=SESSION,
            digest=digest,
            remote_ip=remote_ip,
            since_ms=now_ms,
            until_ms=now_ms + life_ms,
        ):
            return None
        session = _session(transaction.rows(_BEGUN, digest=digest)[0])
        note = f"from {remote_ip}, may {session.role}"
        write_down(transaction, session.actor, "sign-in", now_ms, note)
        return session

    return begin


def end_session(session: Session, now_ms: int) -> Change[None]:
    """Sign out."""

    def end(transaction: Transaction) -> None:
        transaction.change(_END, session_id=session.id)
        write_down(transaction, session.actor, "sign-out", now_ms)

    return end


def end_sessions(session_ids: Collection[int] | None, actor: str, now_ms: int) -> Change[int]:
    """End these sessions, None: all, on record as done by `actor`. Return how many these were."""

    def end(transaction: Transaction) -> int:
        ended = [
            session
            for session in map(_session, transaction.rows(_SESSIONS, now_ms=now_ms))
            if session_ids is None or session.id in session_ids
        ]
        for session in ended:
            transaction.change(_END, session_id=session.id)
            write_down(transaction, actor, "end-session", now_ms, f"of {session.actor}")
        return len(ended)

    return end


def sessions(database: Database, now_ms: int) -> list[SessionRow]:
    """Return who is signed in, the newest first."""
    query = ConsoleToken.select(*queries.columns(ConsoleToken, SessionRow)).where(
        ConsoleToken.kind == SESSION, ConsoleToken.until_ms > now_ms
    )
    newest = query.order_by(ConsoleToken.since_ms.desc(), ConsoleToken.id.desc())
    return queries.rows(database, newest, SessionRow)


def find_session(database: Database, token: str, now_ms: int) -> Session | None:
    """Return the session with the cookie `token`; None if there is none (any more)."""
    query = _OWN.where(ConsoleToken.digest == _digest(token), ConsoleToken.until_ms > now_ms)
    return next(map(_session, queries.tuples(database, query)), None)


def _session(row: tuple[int, str, str, int]) -> Session:
    session_id, person, role, until_ms = row
    return Session(id=session_id, person=person, role=Role(role), until_ms=until_ms)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


OWN_SITES = frozenset({"same-origin", "none"})  # none: the person typed it
MAX_NAME = 100  # characters


def is_own_host(host: str, settings: Console) -> bool:
    """Return whether `host`, a request's header, names this console: localhost, an address, the
    host that it listens on, or that of `url`. A site that resolves its own name to this machine
    comes with that name."""
    name = _hostname(host)
    if name is None:
        return False
    if name in {"localhost", settings.listen.host.lower()} or is_public_name(host, settings):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_public_name(host: str, settings: Console) -> bool:
    """Return whether `host` is that of `url`."""
    return settings.url is not None and _hostname(host) == urlsplit(settings.url).hostname


def is_own_page(headers: Mapping[str, str], host: str, settings: Console) -> bool:
    """Return whether a page of the console itself sent this request. Old browsers send none of
    these headers, and browsers send Sec-Fetch-Site to no plain http:// but localhost's."""
    site = headers.get("Sec-Fetch-Site")
    if site is not None and site not in OWN_SITES:
        return False
    origin = headers.get("Origin")
    if origin is None:
        return True
    # A proxy may pass another Host on, so `url` counts too.
    return origin in {f"http://{host}", f"https://{host}"} or origin == settings.url


def is_safe_target(path: str) -> bool:
    """Return whether `path` leads to a page of the console, and to no other site."""
    return path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()


def _hostname(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def person_in(headers: HTTPHeaders, proxy: SignInProxy) -> str | None:
    """Return who sent a request, if it came from the proxy itself; None: it does not say, or names
    several."""
    secret = headers.get(SECRET_HEADER, "").encode("latin-1", "replace")
    if not hmac.compare_digest(secret, proxy.secret.reveal().encode()):
        return None
    names = headers.get_list(proxy.header)
    name = _decoded(names[0]).strip() if len(names) == 1 else ""
    return name if name.isprintable() and 0 < len(name) <= MAX_NAME else None


def _decoded(text: str) -> str:
    """Return a header's text as UTF-8 (Tornado reads each byte as a letter); empty if it is none.
    Else who is named in `roles` would come as anybody else (`*`)."""
    try:
        return text.encode("latin-1").decode()
    except UnicodeError:
        return ""
