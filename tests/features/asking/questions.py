"""What Prembly was asked, what is awaited of it, and a dispatcher that asks it first."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from premblyd.config.models import Action
from premblyd.features.asking import hooks
from premblyd.features.asking.awaited import NewInquiry, record
from premblyd.features.asking.client import Inquirer
from premblyd.features.asking.confirm import ConfirmGate
from premblyd.features.asking.settings import PremblyApi
from premblyd.features.asking.settling import Answers, Settling
from premblyd.features.asking.states import InquiryResult, Purpose
from premblyd.ground.databases import DatabaseAddress
from tests.support.dispatching import Dispatching
from tests.support.jobs import settings
from tests.support.store import NOW_MS, Store


def await_results(store: Store, first_ask_ms: int) -> Store:
    """From now on let arrivals begin and end waitings, as with `pending`; `bind` lets them not."""
    return store.bind(hooks.await_results(first_ask_ms, first_ask_ms))


def question(purpose: Purpose, result: InquiryResult, reference: str, **about: Any) -> NewInquiry:
    """Return a question to Prembly, and what came of it."""
    return NewInquiry(
        at_ms=NOW_MS, duration_ms=1, purpose=purpose, result=result, reference=reference, **about
    )


def ask(
    store: Store, purpose: Purpose, result: InquiryResult, reference: str, **about: Any
) -> None:
    """Keep a question to Prembly."""
    asked = question(purpose, result, reference, **about)
    store.call(lambda transaction: record(transaction, asked))


class Confirming(Dispatching):
    """A dispatcher at work, which asks Prembly about actions with `confirm`."""

    def __init__(
        self,
        place: DatabaseAddress,
        *actions: Action,
        prembly: PremblyApi | None = None,
        **keys: Any,
    ) -> None:
        super().__init__(place, *actions, **keys)
        self._prembly = prembly

    @cached_property
    def inquirer(self) -> Inquirer:
        inquirer = Inquirer(self.clock)
        inquirer.configure(self._prembly)
        return inquirer

    @cached_property
    def gate(self) -> ConfirmGate:
        return ConfirmGate(self.inquirer, self.queue, Answers(self.writer), self.clock)

    def gates(self, actions: Sequence[Action]) -> list[Any]:
        self.gate.configure(Settling(settings(actions=actions, prembly=self._prembly)))
        return [self.gate]

    async def stop(self, *within: float) -> None:
        self.inquirer.interrupt()
        await super().stop(*within)

    async def __aexit__(self, *_: object) -> None:
        await super().__aexit__(*_)
        self.inquirer.close()
