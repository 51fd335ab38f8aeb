"""What keeping does on the way of a webhook: one about an erased person is stored without personal
data, in the transaction that would have stored it whole; and one whose record was removed is still
a duplicate."""

from collections.abc import Callable

from premblyd.features.keeping import erased
from premblyd.features.keeping.erased import Names
from premblyd.features.keeping.settings import ERASED
from premblyd.queue import trusted
from premblyd.queue.arrivals import COLUMNS, Known
from premblyd.queue.hooks import Hooks
from premblyd.store.engine import Transaction


def _arriving(transaction: Transaction) -> Callable[[Known], None]:
    facts = erased.arrival_facts(transaction)

    def decide(known: Known) -> None:
        if facts.any_events:
            gone = erased.removed_events(transaction, known.new)
            known.ids |= gone
            for key in gone:
                del known.new[key]
        if facts.any_names:
            _leave_out_persons(transaction, known)
        if facts.trusted_ms is not None:
            _keep_from(facts.trusted_ms, known)

    return decide


def _leave_out_persons(transaction: Transaction, known: Known) -> None:
    """Have what is about somebody who was erased be stored without what names anybody."""
    events = {event.key: event for event in known.events}
    names = [
        Names(event.row[_REFERENCE], event.row[_SESSION], event.erasure_id)
        for event in events.values()
    ]
    for key, found in zip(events, erased.find_erased(transaction, names), strict=True):
        if found is not None:
            known.erased.add(key)
            if key in known.new:
                values = erased.without_person(known.new[key].values, found)
                known.new[key] = known.new[key].having(**values)


def _keep_from(trusted_ms: int, known: Known) -> None:
    """Have the periods of what came while the clock was behind count from now."""
    for key, event in tuple(known.new.items()):
        if trusted.is_behind(trusted_ms, event.row[_RECEIVED_AT]):
            known.new[key] = event.having(kept_from_ms=trusted_ms)


_REFERENCE, _SESSION, _RECEIVED_AT = map(
    COLUMNS.index, ("reference", "session_id", "received_at_ms")
)
HOOKS = (Hooks(arriving=_arriving),)
WITHHELD = (erased.is_erased,)
FORGOTTEN = (erased.which_erased,)
RUNS_ERASED = (lambda action: ERASED.of(action) == "run",)
