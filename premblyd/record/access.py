"""Who may look at the console: links that sign in once, and sessions. Whoever may write the record
may sign in; of tokens, the record has digests alone."""

import hashlib
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from premblyd.engines.engine import Database, Statement, Transaction, insert, param
from premblyd.keep.operators import write_down
from premblyd.model.tables import ConsoleLink, ConsoleSession
from premblyd.record import queries
from premblyd.record.operating import Change
from premblyd.roles import Role

LINK_LIFE_MS = 10 * 60_000
TOKEN_BYTES = 32
Hashes = Mapping[Role, str]  # of the passwords that there are

_ADD_LINK = insert(ConsoleLink, "digest", "actor", "role", "created_at_ms", "expires_at_ms")
_FIND_LINK = Statement(
    ConsoleLink.select(ConsoleLink.actor, ConsoleLink.role).where(
        ConsoleLink.digest == param("digest"), ConsoleLink.expires_at_ms > param("now_ms")
    )
)
_USE_LINK = Statement(ConsoleLink.delete().where(ConsoleLink.digest == param("digest")))
_ADD_SESSION = insert(
    ConsoleSession,
    *("digest", "actor", "role", "remote_ip", "began_at_ms", "expires_at_ms", "password_sha256"),
)
_ALL = ConsoleSession.select(
    ConsoleSession.id,
    ConsoleSession.actor,
    ConsoleSession.role,
    ConsoleSession.expires_at_ms,
    ConsoleSession.password_sha256,
)
_SESSIONS = Statement(_ALL)
_END_SESSION = Statement(ConsoleSession.delete().where(ConsoleSession.id == param("session_id")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Somebody who is signed in. Without an id, a proxy says so at each request."""

    id: int | None
    person: str
    role: Role
    expires_at_ms: int | None

    @property
    def actor(self) -> str:
        """Whom the record names for what is done in this session."""
        session = "console, by the proxy" if self.id is None else f"console session {self.id}"
        role = "" if self.role is Role.OPERATE else f", may {self.role}"
        return f"{self.person} ({session}{role})"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRow:
    """Somebody who is signed in, in a list."""

    id: int
    actor: str
    by_password: bool
    remote_ip: str
    began_at_ms: int
    expires_at_ms: int
    role: str


def new_token() -> str:
    """Return a secret that nobody guesses: of a link, or of a session's cookie."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def offer_link(token: str, person: str, role: Role, now_ms: int) -> Change[None]:
    """Let whoever brings `token` sign in as `person`, once, within LINK_LIFE_MS."""

    def offer(transaction: Transaction) -> None:
        transaction.insert(
            _ADD_LINK,
            digest=_digest(token),
            actor=person,
            role=role,
            created_at_ms=now_ms,
            expires_at_ms=now_ms + LINK_LIFE_MS,
        )

    return offer


def begin_session(
    session_token: str,
    *,
    link: str | None = None,
    password: tuple[Role, str] | None = None,
    remote_ip: str,
    now_ms: int,
    life_ms: int,
) -> Change[Session | None]:
    """Begin a session of who brings the token of a link, which that uses up, or else knows the
    password of a role, with this hash. None: there is no such link (any more)."""

    def begin(transaction: Transaction) -> Session | None:
        person, how = "password", "by password"
        role, password_hash = password or (None, None)
        if link is not None:
            digest, how = _digest(link), "by link"
            found = transaction.row(_FIND_LINK, digest=digest, now_ms=now_ms)
            if found is None or not transaction.change(_USE_LINK, digest=digest):
                return None
            person, role = found[0], Role(found[1])
        if role is None:
            return None
        expires_at_ms = now_ms + life_ms
        session_id = transaction.insert(
            _ADD_SESSION,
            digest=_digest(session_token),
            actor=person,
            role=role,
            remote_ip=remote_ip,
            began_at_ms=now_ms,
            expires_at_ms=expires_at_ms,
            password_sha256=_digest(password_hash),
        )
        session = Session(id=session_id, person=person, role=role, expires_at_ms=expires_at_ms)
        note = f"{how}, from {remote_ip}, may {role}"
        write_down(transaction, session.actor, "sign-in", now_ms, note)
        return session

    return begin


def end_session(session: Session, now_ms: int) -> Change[None]:
    """Sign out."""

    def end(transaction: Transaction) -> None:
        transaction.change(_END_SESSION, session_id=session.id)
        write_down(transaction, session.actor, "sign-out", now_ms)

    return end


def end_other_passwords(hashes: Hashes, now_ms: int) -> Change[int]:
    """End the sessions that were begun by another password than their role has now. Return how many
    these were."""
    note = ": the password is another one"
    return _ending(
        lambda own, digest: digest not in (None, _digest(hashes.get(own.role))),
        *("premblyd", now_ms, note),
    )


def end_sessions(session_ids: Collection[int] | None, actor: str, now_ms: int) -> Change[int]:
    """End these sessions, None: all, on record as done by `actor`. Return how many these were."""
    return _ending(lambda own, _: session_ids is None or own.id in session_ids, actor, now_ms)


def _ending(
    is_meant: Callable[[Session, str | None], bool], actor: str, now_ms: int, note: str = ""
) -> Change[int]:
    """End the sessions that are meant, by themselves and the digest of their password."""

    def end(transaction: Transaction) -> int:
        ended = 0
        for *columns, digest in transaction.rows(_SESSIONS):
            session = _session(*columns)
            if is_meant(session, digest):
                transaction.change(_END_SESSION, session_id=session.id)
                if (session.expires_at_ms or 0) > now_ms:
                    write_down(
                        transaction, actor, "end-session", now_ms, f"of {session.actor}{note}"
                    )
                    ended += 1
        return ended

    return end


def sessions(database: Database, now_ms: int) -> list[SessionRow]:
    """Return who is signed in, the newest first."""
    query = ConsoleSession.select(
        *queries.columns(ConsoleSession, SessionRow),
        ConsoleSession.password_sha256.is_null(False).alias("by_password"),
    ).where(ConsoleSession.expires_at_ms > now_ms)
    return queries.rows(database, query.order_by(ConsoleSession.id.desc()), SessionRow)


def find_session(database: Database, token: str, now_ms: int, hashes: Hashes) -> Session | None:
    """Return the session whose cookie is `token`; None when there is none, or none any more: by a
    password, only while its role has that."""
    query = _ALL.where(
        ConsoleSession.digest == _digest(token), ConsoleSession.expires_at_ms > now_ms
    )
    for *columns, digest in queries.tuples(database, query):
        session = _session(*columns)
        if digest is None or digest == _digest(hashes.get(session.role)):
            return session
    return None


def _session(session_id: int, person: str, role: str, expires_at_ms: int) -> Session:
    return Session(id=session_id, person=person, role=Role(role), expires_at_ms=expires_at_ms)


def _digest(token: str | None) -> str | None:
    if token is None:
        return None
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
