"""Who may look at the console: links that sign in once, and sessions. Whoever may write the record
may sign in; of tokens, the record has digests alone."""

import hashlib
import secrets
from collections.abc import Collection
from dataclasses import dataclass

from peewee import Database

from premblyd.engines.engine import Statement, Transaction, insert, param
from premblyd.model.tables import ConsoleLink, ConsoleSession, OperatorAction
from premblyd.record import queries
from premblyd.record.operating import Change

LINK_LIFE_MS = 10 * 60_000
TOKEN_BYTES = 32

_ADD_LINK = insert(ConsoleLink, "digest", "actor", "created_at_ms", "expires_at_ms")
_FIND_LINK = Statement(
    ConsoleLink.select(ConsoleLink.actor).where(
        ConsoleLink.digest == param("digest"), ConsoleLink.expires_at_ms > param("now_ms")
    )
)
_USE_LINK = Statement(ConsoleLink.delete().where(ConsoleLink.digest == param("digest")))
_DROP_LINKS = Statement(ConsoleLink.delete().where(ConsoleLink.expires_at_ms <= param("now_ms")))
_ADD_SESSION = insert(
    ConsoleSession,
    "digest",
    "actor",
    "remote_ip",
    "began_at_ms",
    "expires_at_ms",
    "password_sha256",
)
_SESSIONS = Statement(
    ConsoleSession.select(
        ConsoleSession.id,
        ConsoleSession.actor,
        ConsoleSession.expires_at_ms,
        ConsoleSession.password_sha256,
    )
)
_END_SESSION = Statement(ConsoleSession.delete().where(ConsoleSession.id == param("session_id")))
_DROP_SESSIONS = Statement(
    ConsoleSession.delete().where(ConsoleSession.expires_at_ms <= param("now_ms"))
)
_RECORD = insert(OperatorAction, "at_ms", "actor", "action", "note")


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Somebody who is signed in."""

    id: int
    person: str
    expires_at_ms: int

    @property
    def actor(self) -> str:
        """Whom the record names for what is done in this session."""
        return f"{self.person} (console session {self.id})"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRow:
    """Somebody who is signed in, in a list."""

    id: int
    actor: str
    by_password: bool
    remote_ip: str
    began_at_ms: int
    expires_at_ms: int


def new_token() -> str:
    """Return a secret that nobody guesses: of a link, or of a session's cookie."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def offer_link(token: str, person: str, now_ms: int) -> Change[None]:
    """Let whoever brings `token` sign in as `person`, once, within LINK_LIFE_MS."""

    def offer(transaction: Transaction) -> None:
        transaction.change(_DROP_LINKS, now_ms=now_ms)
        transaction.insert(
            _ADD_LINK,
            digest=_digest(token),
            actor=person,
            created_at_ms=now_ms,
            expires_at_ms=now_ms + LINK_LIFE_MS,
        )

    return offer


def redeem_link(
    token: str, session_token: str, *, remote_ip: str, now_ms: int, life_ms: int
) -> Change[Session | None]:
    """Use up the link with `token` and begin a session. None: there is no such link (any more)."""

    def redeem(transaction: Transaction) -> Session | None:
        digest = _digest(token)
        found = transaction.row(_FIND_LINK, digest=digest, now_ms=now_ms)
        if found is None or not transaction.change(_USE_LINK, digest=digest):
            return None
        return _begin(
            transaction,
            session_token,
            found[0],
            how="by link",
            remote_ip=remote_ip,
            now_ms=now_ms,
            life_ms=life_ms,
        )

    return redeem


def begin_by_password(
    session_token: str, password_hash: str, *, remote_ip: str, now_ms: int, life_ms: int
) -> Change[Session]:
    """Begin a session of somebody who knows the password, of which this is the hash."""
    return lambda transaction: _begin(
        transaction,
        session_token,
        "password",
        how="by password",
        remote_ip=remote_ip,
        now_ms=now_ms,
        life_ms=life_ms,
        password_hash=password_hash,
    )


def end_session(session: Session, now_ms: int) -> Change[None]:
    """Sign out."""

    def end(transaction: Transaction) -> None:
        transaction.change(_END_SESSION, session_id=session.id)
        _record(transaction, session.actor, "sign-out", now_ms, None)

    return end


def end_other_passwords(password_hash: str | None, now_ms: int) -> Change[int]:
    """End the sessions that were begun by another password than the one with this hash; None: by
    any. Return how many these were."""

    def end(transaction: Transaction) -> int:
        current = _digest(password_hash) if password_hash else None
        ended = [
            Session(id=session_id, person=person, expires_at_ms=expires_at_ms)
            for session_id, person, expires_at_ms, digest in transaction.rows(_SESSIONS)
            if digest is not None and digest != current
        ]
        for session in ended:
            transaction.change(_END_SESSION, session_id=session.id)
            note = f"of {session.actor}: the password is another one"
            _record(transaction, "premblyd", "end-session", now_ms, note)
        return len(ended)

    return end


def end_sessions(session_ids: Collection[int] | None, actor: str, now_ms: int) -> Change[int]:
    """End these sessions, None: all, on record as done by `actor`. Return how many these were."""

    def end(transaction: Transaction) -> int:
        ended = 0
        for session_id, person, expires_at_ms, _ in transaction.rows(_SESSIONS):
            if session_ids is not None and session_id not in session_ids:
                continue
            transaction.change(_END_SESSION, session_id=session_id)
            if expires_at_ms > now_ms:
                session = Session(id=session_id, person=person, expires_at_ms=expires_at_ms)
                _record(transaction, actor, "end-session", now_ms, f"of {session.actor}")
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


def find_session(
    database: Database, token: str, now_ms: int, password_hash: str | None
) -> Session | None:
    """Return the session whose cookie is `token`; None when there is none, or none any more: by a
    password, only while that has this hash."""
    query = ConsoleSession.select(
        ConsoleSession.id,
        ConsoleSession.actor,
        ConsoleSession.expires_at_ms,
        ConsoleSession.password_sha256,
    ).where(ConsoleSession.digest == _digest(token), ConsoleSession.expires_at_ms > now_ms)
    found = queries.tuples(database, query)
    current = _digest(password_hash) if password_hash else None
    for session_id, person, expires_at_ms, digest in found:
        if digest is None or digest == current:
            return Session(id=session_id, person=person, expires_at_ms=expires_at_ms)
    return None


def _begin(
    transaction: Transaction,
    token: str,
    person: str,
    *,
    how: str,
    remote_ip: str,
    now_ms: int,
    life_ms: int,
    password_hash: str | None = None,
) -> Session:
    transaction.change(_DROP_SESSIONS, now_ms=now_ms)
    session_id = transaction.insert(
        _ADD_SESSION,
        digest=_digest(token),
        actor=person,
        remote_ip=remote_ip,
        began_at_ms=now_ms,
        expires_at_ms=now_ms + life_ms,
        password_sha256=_digest(password_hash) if password_hash else None,
    )
    session = Session(id=session_id or 0, person=person, expires_at_ms=now_ms + life_ms)
    _record(transaction, session.actor, "sign-in", now_ms, f"{how}, from {remote_ip}")
    return session


def _record(
    transaction: Transaction, actor: str, action: str, now_ms: int, note: str | None
) -> None:
    transaction.insert(_RECORD, at_ms=now_ms, actor=actor, action=action, note=note)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
