"""The keys of actions whose hooks run one at a time, or once."""

from typing import Any, Literal

from pydantic import model_validator

from premblyd.config.keys import ActionKey
from premblyd.config.models import Action
from premblyd.config.values import Model

Then = Literal["continue", "wait"]


class Order(Model):
    """In which order an action's hook runs for events that belong together: one at a time, in the
    order of receipt. `then`: what those behind a dead one do."""

    by: Literal["reference"]
    then: Then = "continue"

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        return {"by": value} if isinstance(value, str) else value


ONCE: ActionKey[Literal["reference"] | None] = ActionKey("once", Literal["reference"] | None, None)
ORDER: ActionKey[Order | None] = ActionKey("order", Order | None, None)
ACTION_KEYS = (ONCE, ORDER)


def then_of(action: Action) -> Then | None:
    """Return what those behind a dead delivery do; None: the action has no `order`."""
    order = ORDER.of(action)
    return order.then if order else None
