"""Closings: the end of the relationship with a person, from which `identity` and `record` count
where `retention` says `from: closed`."""

from dataclasses import dataclass

from premblyd.engines.engine import Statement, Transaction, insert, param, update
from premblyd.keep import holds
from premblyd.keep.operators import Change, write_down
from premblyd.keep.retention import closing_noted
from premblyd.model.keeptables import Closing


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """The number of a closing, and the time that it had before; None: it is new."""

    id: int
    was_ms: int | None


def close(user_ref: str, at_ms: int, *, actor: str, now_ms: int) -> Change[Closed]:
    """Note that the relationship with a person ended, or ends, at `at_ms`. One that was noted
    before is replaced."""

    def close(transaction: Transaction) -> Closed:
        transaction.lock([holds.LOCK])
        before = transaction.row(_FIND, user_ref=user_ref)
        noted = {"at_ms": at_ms, "noted_at_ms": now_ms, "actor": actor}
        if before is None:
            number = int(transaction.insert(_CLOSE, user_ref=user_ref, **noted) or 0)
            closed = Closed(id=number, was_ms=None)
        else:
            closed = Closed(id=before[0], was_ms=before[1])
            transaction.change(_CHANGE, id=closed.id, **noted)
        closing_noted(transaction, at_ms)
        write_down(transaction, actor, "closed", now_ms, f"closing {closed.id}")
        return closed

    return close


def undo(user_ref: str, *, actor: str, now_ms: int) -> Change[bool]:
    """Take back that a relationship ended. False: nothing was noted of this person."""

    def undo(transaction: Transaction) -> bool:
        transaction.lock([holds.LOCK])
        before = transaction.row(_FIND, user_ref=user_ref)
        if before is None:
            return False
        transaction.change(_FORGET, user_ref=user_ref)
        write_down(transaction, actor, "undo-closed", now_ms, f"closing {before[0]}")
        return True

    return undo


_OF_PERSON = Closing.user_ref == param("user_ref")
_FIND = Statement(Closing.select(Closing.id, Closing.at_ms).where(_OF_PERSON))
_CLOSE = insert(Closing, "user_ref", "at_ms", "noted_at_ms", "actor")
_CHANGE = update(Closing, "at_ms", "noted_at_ms", "actor", where=Closing.id == param("id"))
_FORGET = Statement(Closing.delete().where(_OF_PERSON))
