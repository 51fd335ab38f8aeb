"""What asking does on the way of a webhook."""

from collections.abc import Iterable, Sequence

from peewee import fn

from premblyd.config.models import Config
from premblyd.features.asking import awaited, questions
from premblyd.features.asking.awaited import Meaning
from premblyd.features.asking.questions import CONFIRMED, DOUBTS
from premblyd.features.asking.settings import PENDING, PREMBLY
from premblyd.features.asking.tables import IS_CONFIRMED, Inquiry
from premblyd.features.turns.tables import Ordered
from premblyd.prembly.payload import Webhook
from premblyd.queue.end import is_claimed_by
from premblyd.queue.hooks import Arrival, End, Hooks
from premblyd.store.engine import Statement, Transaction, param
from premblyd.store.states import InquiryResult, State
from premblyd.store.tables import Delivery


def _ending(transaction: Transaction, ends: Sequence[End]) -> None:
    """Let a delivery that ends dead hold nobody behind it by `order` if Prembly does not confirm
    it: it may be forged."""
    for each in ends:
        job = each.job
        if each.state is State.DEAD and job is not None and job.group is not None:
            transaction.write(_LET_GO, id=each.id, claim_token=job.claim_token)


def await_results(first_ask_ms: int) -> Hooks:
    """Return the hooks that await what a new event does not settle, of which Prembly is first asked
    so long after it, and end what waited for what it does."""

    def locks(webhook: Webhook) -> Iterable[str]:
        meaning = Meaning.of(webhook, first_ask_ms)
        return () if meaning is None else (awaited.lock_name(meaning.reference),)

    def arrived(transaction: Transaction, arrivals: Sequence[Arrival]) -> None:
        new: dict[int, Meaning] = {}
        for each in arrivals:
            if each.webhook is None or each.event_id is None or each.is_erased or not each.is_new:
                continue
            if (meaning := Meaning.of(each.webhook, first_ask_ms)) is not None:
                new[each.event_id] = meaning
        awaited.note(transaction, new)

    return Hooks(locks=locks, arrived=arrived)


def _confirms(settings: Config | None) -> Hooks | None:
    return None if settings is not None and PREMBLY.of(settings) is None else _CONFIRMS


def _awaits(settings: Config | None) -> Hooks | None:
    pending = None if settings is None else PENDING.of(settings)
    return None if pending is None else await_results(pending.ask_ms[0])


_IS_DOUBTED = fn.EXISTS(
    Inquiry.select(Inquiry.id).where(
        Inquiry.event == Delivery.event,
        Inquiry.result.in_(DOUBTS),
        (Inquiry.delivery == Delivery.id) | (Inquiry.result == InquiryResult.CONTRADICTED),
    )
)
_LET_GO = Statement(
    Ordered.update(blocks=False).where(
        Ordered.delivery.in_(
            Delivery.select(Delivery.id).where(
                is_claimed_by(param("id"), param("claim_token")),
                ~IS_CONFIRMED,
                _IS_DOUBTED,
            )
        )
    )
)
_CONFIRMS = Hooks(ending=_ending, resume=questions.resume)
_RENEWS = Hooks(anew=lambda transaction, ids: transaction.change_each(questions.FORGET, ids))
HOOKS = (_RENEWS, _confirms, _awaits)
VOUCHED = (CONFIRMED,)
SHIFTS = (awaited.SHIFT,)
