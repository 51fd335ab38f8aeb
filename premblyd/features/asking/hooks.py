"""What asking does on the way of a webhook."""

from collections.abc import Sequence

from peewee import fn

from premblyd.config.models import Config
from premblyd.features.asking.questions import DOUBTS
from premblyd.features.asking.settings import PREMBLY
from premblyd.features.asking.tables import Inquiry
from premblyd.queue.finishing import is_claimed_by
from premblyd.queue.hooks import End, Hooks
from premblyd.store.engine import Statement, Transaction, param
from premblyd.store.states import InquiryResult, State
from premblyd.store.tables import Delivery


def _ending(transaction: Transaction, ends: Sequence[End]) -> None:
    """Let a delivery that ends dead hold nobody behind it by `order` if Prembly does not confirm
    it: it may be forged."""
    for _, state, job in ends:
        if state is State.DEAD and job is not None and job.order_key is not None:
            transaction.write(_LET_GO, id=job.delivery_id, claim_token=job.claim_token)


def _bind(settings: Config | None) -> Hooks | None:
    if settings is not None and PREMBLY.of(settings) is None:
        return None
    return Hooks(ending=_ending)


_IS_DOUBTED = fn.EXISTS(
    Inquiry.select(Inquiry.id).where(
        Inquiry.event == Delivery.event,
        Inquiry.result.in_(DOUBTS),
        (Inquiry.delivery == Delivery.id) | (Inquiry.result == InquiryResult.CONTRADICTED),
    )
)
_LET_GO = Statement(
    Delivery.update(blocks_order=False).where(
        is_claimed_by(param("id"), param("claim_token")),
        Delivery.confirmed_at_ms.is_null(),
        _IS_DOUBTED,
    )
)
HOOKS = (_bind,)
