"""What keeping does on the way of a webhook: one about an erased person is stored without personal
data, in the transaction that would have stored it whole; and one whose record was removed is still
a duplicate."""

from collections.abc import Callable

from peewee import fn

from premblyd.config.models import Config
from premblyd.features.keeping import erased, trusted
from premblyd.features.keeping.erased import Names
from premblyd.features.keeping.settings import ERASED, RETENTION
from premblyd.features.keeping.tables import KeptFrom, Removal, Removed
from premblyd.ground.times import DAY_MS
from premblyd.queue.arrivals import COLUMNS, Known
from premblyd.queue.hooks import Hooks
from premblyd.record import queries
from premblyd.store.engine import BulkInsert, Database, Transaction


def _arriving(transaction: Transaction) -> Callable[[Known], None]:
    any_names, any_events, trusted_ms = transaction.row(erased.GONE) or (None, None, None)

    def decide(known: Known) -> None:
        if any_events:
            gone = erased.removed_events(transaction, known.new)
            known.ids |= gone
            for key in gone:
                del known.new[key]
        if any_names:
            _leave_out_persons(transaction, known)
        if trusted_ms is not None:
            _keep_from(trusted_ms, known)

    return decide


def _leave_out_persons(transaction: Transaction, known: Known) -> None:
    """Have what is about somebody who was erased be stored without what names anybody."""
    events = {event.key: event for event in known.events}
    names = [
        Names(event.row[_REFERENCE], event.row[_SESSION], event.names) for event in events.values()
    ]
    marks = {}
    ids = erased.find_erased(transaction, names)
    for key, found in zip(events, ids, strict=True):
        if found is not None:
            known.erased.add(key)
            if key in known.new:
                values = erased.without_person(known.new[key].values)
                known.new[key] = known.new[key].having(**values)
                marks[key] = (found,)
    if marks:
        known.beside.append((erased.MARK_ERASED, marks))


def _keep_from(trusted_ms: int, known: Known) -> None:
    """Have the periods of what came while the clock was behind count from now."""
    late = [
        key
        for key, event in known.new.items()
        if event.row[_RECEIVED_AT] < trusted_ms - trusted.BEHIND_MS
    ]
    if late:
        known.beside.append((_KEEP_FROM, dict.fromkeys(late, (trusted_ms,))))


def _removed_until(database: Database) -> int:
    """Return until when what came may be removed, or what names it."""
    newest = Removal.select(fn.MAX(Removal.day_ms - Removal.period_ms)).where(
        Removal.removed.in_((Removed.IDENTITY.value, Removed.RECORD.value)), Removal.count > 0
    )
    newest_ms = queries.value(database, newest)
    return newest_ms + DAY_MS if isinstance(newest_ms, int) else 0


def _named_since(settings: Config, now_ms: int) -> int:
    """Return since when what came is known by its reference."""
    period_ms = RETENTION.of(settings).names_ms
    return 0 if period_ms is None else now_ms - period_ms


_REFERENCE, _SESSION, _RECEIVED_AT = map(
    COLUMNS.index, ("reference", "session_id", "received_at_ms")
)
_KEEP_FROM = BulkInsert(KeptFrom, "event_id", "at_ms")
HOOKS = (Hooks(arriving=_arriving, beat=trusted.go_on),)
WITHHELD = (erased.is_erased,)
FORGOTTEN = (erased.which_erased,)
REMOVED_UNTIL = (_removed_until,)
NAMED_SINCE = (_named_since,)
RUNS_ERASED = (lambda action: ERASED.of(action) == "run",)
