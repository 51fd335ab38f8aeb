"""What `order` and `once` do on the way of a webhook."""

from premblyd.features.turns import once, order
from premblyd.features.turns.settings import ONCE, then_of
from premblyd.queue.hooks import Hooks

HOOKS = (
    Hooks(
        turn=lambda transaction, now_ms: once.Turns(transaction, now_ms).of,
        begin=once.begin,
        keeps_open=order.keeps_open,
        locks_to_end=order.locks_to_end,
        store=order.insert,
        locks_to_store=order.locks_to_store,
        lock=order.lock,
        again=order.again,
    ),
)
TURNS = (lambda action: ONCE.of(action) is not None,)
TERMS = (then_of,)
