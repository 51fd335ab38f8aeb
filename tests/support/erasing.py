"""Somebody who was erased, as what arrives later finds it."""

from collections.abc import Callable, Sequence

from premblyd.features.keeping import removing
from premblyd.features.keeping.erased import NameDigests
from premblyd.features.keeping.tables import ErasedEvent, ErasedName, Erasure, GoneEvent
from premblyd.features.turns.tables import OnceRun
from premblyd.store.engine import Statement, Transaction, insert, param
from premblyd.store.states import RemovedParts
from premblyd.store.tables import Event
from tests.support.store import NOW_MS, Store

_ERASURE = insert(Erasure, "at_ms", "actor", "found_by", "events", "cancelled")
_NAME = insert(ErasedName, "name", "erasure_id", if_unique=True)
_GONE = insert(GoneEvent, "key", "event_id")
_GONE_ONCE = insert(OnceRun, "action", "once_key")
_OF = Statement(Event.select(Event.id).where(Event.reference == param("reference")))
_MARK = insert(ErasedEvent, "event_id", "erasure_id")


def forget(store: Store, *references: str, sessions: Sequence[str] = ()) -> int:
    """Have these references and sessions erased; return the number of the erasure."""
    return store.call(forgetting(*references, sessions=sessions), alone=True)


def forgetting(*references: str, sessions: Sequence[str] = ()) -> Callable[[Transaction], int]:
    """Return what erases these references and sessions in a transaction."""

    def work(transaction: Transaction) -> int:
        digests = NameDigests.of(transaction)
        erasure_id = transaction.insert(
            _ERASURE, at_ms=NOW_MS, actor="ada", found_by="reference", events=0, cancelled=0
        )
        assert erasure_id is not None
        names = [digests.of_reference(each) for each in references]
        names += [digests.of_session(each) for each in sessions]
        for name in names:
            transaction.insert(_NAME, name=name, erasure_id=erasure_id)
        for reference in references:
            for (event_id,) in transaction.rows(_OF, reference=reference):
                transaction.insert(_MARK, event_id=event_id, erasure_id=erasure_id)
                removing.empty_identities(transaction, [event_id], RemovedParts.ERASED)
        return erasure_id

    return work


def remove_record(store: Store, event_id: int, *once: tuple[str, str]) -> None:
    """Have the record of an event that has no deliveries removed; `once`: by which action and key
    a hook had succeeded for it."""

    def work(transaction: Transaction) -> None:
        ((key,),) = transaction.rows(
            Statement(Event.select(Event.key).where(Event.id == param("id"))), id=event_id
        )
        transaction.insert(_GONE, key=key, event_id=event_id)
        for action, once_key in once:
            transaction.insert(_GONE_ONCE, action=action, once_key=once_key)
        transaction.change(Statement(Event.delete().where(Event.id == param("id"))), id=event_id)

    store.call(work, alone=True)
