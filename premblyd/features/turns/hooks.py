"""What `order` and `once` do on the way of a webhook."""

from premblyd.features.turns import order
from premblyd.features.turns.settings import then_of
from premblyd.queue.hooks import Hooks

HOOKS = (
    Hooks(
        store=order.insert,
        locks_to_store=order.locks_to_store,
        lock=order.lock,
        again=order.again,
    ),
)
TERMS = (then_of,)
