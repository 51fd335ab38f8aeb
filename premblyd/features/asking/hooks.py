"""What asking does on the way of a webhook, which is awaited, and of a hook: what was confirmed."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from peewee import fn

from premblyd.config.models import Config
from premblyd.features.asking import awaited
from premblyd.features.asking.awaited import Meaning
from premblyd.features.asking.settings import PENDING, PREMBLY
from premblyd.features.asking.standing import FACTS
from premblyd.features.asking.states import InquiryResult
from premblyd.features.asking.tables import DOUBTS, IS_CONFIRMED, Confirmation, Inquiry
from premblyd.features.turns.tables import Ordered
from premblyd.prembly.payload import Outcome, Webhook
from premblyd.queue.end import is_claimed_by
from premblyd.queue.hooks import Arrival, End, Hooks, Resumed
from premblyd.queue.jobs import Job
from premblyd.store.engine import Lookup, Statement, Transaction, param
from premblyd.store.states import State
from premblyd.store.tables import Delivery

CONFIRMED = "confirmed"  # so hooks are told of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """What Prembly's answer confirmed of an event, kept for the delivery, so that each attempt of
    its hook gets the same: the facts that an answer with this SHA-256 states, by their names in
    Verdict; `reference` among them when it names the event's."""

    facts: Mapping[str, Any]
    sha256: bytes | None = None

    @classmethod
    def read(cls, text: str | None) -> Self:
        """Read what is kept of the facts. Raise ValueError or TypeError when it can't be read, or
        there is nothing."""
        facts = dict(json.loads(text or ""))
        if "outcome" in facts:
            facts["outcome"] = Outcome(facts["outcome"])
        return cls(facts=facts)

    def job(self, job: Job) -> Job:
        """Return the job with which the hook runs: its event's facts are the confirmed ones."""
        changes = {name: value for name, value in self.facts.items() if name in FACTS}
        event = replace(job.event, verdict=replace(job.event.verdict, **changes))
        return replace(job, event=event, vouched={CONFIRMED: tuple(self.facts)})


def resume(transaction: Transaction, delivery_ids: Sequence[int]) -> Resumed:
    """Spend an attempt of those of these deliveries that are confirmed: their hooks run. Return
    what has their jobs say what Prembly confirmed then."""
    found = transaction.ask_for(KEPT_FACTS, delivery_ids)
    for delivery_id in delivery_ids:
        transaction.write(_SPEND, id=delivery_id)

    def resumed(jobs: Iterable[Job]) -> Iterator[Job]:
        texts: dict[int, str] = dict(found())
        for job in jobs:
            try:
                known = texts.get(job.delivery_id)
                yield job if known is None else Confirmed.read(known).job(job)
            except (ValueError, TypeError):
                yield replace(job, vouched={CONFIRMED: None})

    return resumed


KEPT_FACTS = Lookup(
    Confirmation.select(Confirmation.delivery, Confirmation.facts), Confirmation.delivery
)
_SPEND = Statement(
    Delivery.update(attempts_left=Delivery.attempts_left - 1).where(
        Delivery.id == param("id"), IS_CONFIRMED
    )
)
FORGET = Lookup(Confirmation.delete(), Confirmation.delivery)


def _ending(transaction: Transaction, ends: Sequence[End]) -> None:
    """Let a delivery that ends dead hold nobody behind it by `order` if Prembly does not confirm
    it: it may be forged."""
    for each in ends:
        job = each.job
        if each.state is State.DEAD and job is not None and job.group is not None:
            transaction.write(_LET_GO, id=each.id, claim_token=job.claim_token)


def await_results(ask_ms: int, money_ms: int) -> Hooks:
    """Return the hooks that await what a new event does not settle, and end what waited for what it
    does. Prembly is first asked so long after it."""

    def locks(webhook: Webhook) -> Iterable[str]:
        meaning = Meaning.of(webhook, ask_ms, money_ms)
        return () if meaning is None else (awaited.lock_name(meaning.reference),)

    def arrived(transaction: Transaction, arrivals: Sequence[Arrival]) -> None:
        new: dict[int, Meaning] = {}
        for each in arrivals:
            if each.webhook is None or each.event_id is None or each.is_erased or not each.is_new:
                continue
            if (meaning := Meaning.of(each.webhook, ask_ms, money_ms)) is not None:
                new[each.event_id] = meaning
        awaited.note(transaction, new)

    return Hooks(locks=locks, arrived=arrived)


def _confirms(settings: Config | None) -> Hooks | None:
    return None if settings is not None and PREMBLY.of(settings) is None else _CONFIRMS


def _awaits(settings: Config | None) -> Hooks | None:
    pending = None if settings is None else PENDING.of(settings)
    return None if pending is None else await_results(pending.ask_ms[0], pending.give_up_ms)


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
_CONFIRMS = Hooks(ending=_ending, resume=resume)
_RENEWS = Hooks(anew=lambda transaction, ids: transaction.change_each(FORGET, ids))
HOOKS = (_RENEWS, _confirms, _awaits)
VOUCHED = (CONFIRMED,)
SHIFTS = (awaited.SHIFT,)
