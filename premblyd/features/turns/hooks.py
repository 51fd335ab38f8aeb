"""What `order` and `once` do on the way of a webhook."""

from premblyd.features.turns import once, order
from premblyd.features.turns.settings import ONCE, then_of
from premblyd.features.turns.tables import OnceRun
from premblyd.prembly.payload import Verdict
from premblyd.queue.digests import Digests
from premblyd.queue.hooks import Hooks
from premblyd.store.engine import Statement, Transaction, param
from premblyd.store.tables import Delivery


def _arrived_erased(transaction: Transaction, event_id: int, said: Verdict) -> None:
    """Keep what the hooks of an erased event run once for, as a key that was confirmed: the event
    has no reference any more."""
    if said.reference:
        digests = Digests.of(transaction)
        key = once.once_key(digests, said.reference, said.outcome, said.type)
        transaction.write(_KEEP_KEY, event_id=event_id, key=key)


_KEEP_KEY = Statement(
    OnceRun.insert_from(
        Delivery.select(Delivery.id, Delivery.action, param("key").cast("TEXT")).where(
            Delivery.event == param("event_id")
        ),
        [OnceRun.delivery, OnceRun.action, OnceRun.confirmed_key],
    )
)
HOOKS = (
    Hooks(
        arrived_erased=_arrived_erased,
        turn=lambda transaction, now_ms: once.Turns(transaction, now_ms).of,
        begin=once.begin,
        keeps_open=order.keeps_open,
        locks_to_end=order.locks_to_end,
        store=order.insert,
        locks_to_store=order.locks_to_store,
        lock=order.lock,
        again=order.again,
        anew=once.forget_confirmed,
        ended=order.leave,
    ),
)
REMOVING = (once.keep_keys,)
TURNS = (lambda action: ONCE.of(action) is not None,)
TERMS = (then_of,)
TOLD = ("PREMBLY_ONCE_KEY",)
