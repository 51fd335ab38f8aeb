"""Who may look at the console: links that sign in once, and sessions. Whoever may write the record
may sign in; of tokens, the record has digests alone."""

import hashlib
import secrets
from dataclasses import dataclass

from peewee import Database

from premblyd.errors import StoreUnreadableError
from premblyd.record.operating import Change
from premblyd.store.connections import translated
from premblyd.store.engine import Transaction
from premblyd.store.models import ConsoleLink, ConsoleSession, OperatorAction
from premblyd.store.statements import Statement, insert, param

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
    ConsoleSession, "digest", "actor", "remote_ip", "began_at_ms", "expires_at_ms"
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
        return _begin(transaction, session_token, found[0], "by link", remote_ip, now_ms, life_ms)

    return redeem


def begin_session(
    session_token: str, person: str, *, how: str, remote_ip: str, now_ms: int, life_ms: int
) -> Change[Session]:
    """Begin a session of somebody who has proved who they are."""
    return lambda transaction: _begin(
        transaction, session_token, person, how, remote_ip, now_ms, life_ms
    )


def end_session(session: Session, now_ms: int) -> Change[None]:
    """Sign out."""

    def end(transaction: Transaction) -> None:
        transaction.change(_END_SESSION, session_id=session.id)
        _record(transaction, session.actor, "sign-out", now_ms, None)

    return end


def find_session(database: Database, token: str, now_ms: int) -> Session | None:
    """Return the session whose cookie is `token`; None when there is none, or none any more."""
    query = ConsoleSession.select(
        ConsoleSession.id, ConsoleSession.actor, ConsoleSession.expires_at_ms
    ).where(ConsoleSession.digest == _digest(token), ConsoleSession.expires_at_ms > now_ms)
    with translated(StoreUnreadableError):
        for session_id, person, expires_at_ms in database.execute(query.bind(database)):
            return Session(id=session_id, person=person, expires_at_ms=expires_at_ms)
    return None


def _begin(
    transaction: Transaction,
    token: str,
    person: str,
    how: str,
    remote_ip: str,
    now_ms: int,
    life_ms: int,
) -> Session:
    transaction.change(_DROP_SESSIONS, now_ms=now_ms)
    session_id = transaction.insert(
        _ADD_SESSION,
        digest=_digest(token),
        actor=person,
        remote_ip=remote_ip,
        began_at_ms=now_ms,
        expires_at_ms=now_ms + life_ms,
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
