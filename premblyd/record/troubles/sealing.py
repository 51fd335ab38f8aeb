"""Trouble with encryption: what `premblyd rekey` would seal, or give to another data key."""

from collections.abc import Iterator

from peewee import fn

from premblyd.engines.engine import Database
from premblyd.errors import CannotStartError
from premblyd.keep.rekeying import IS_CLEAR
from premblyd.model.tables import Event
from premblyd.record import queries
from premblyd.record.troubles.trouble import Item, Situation, trouble
from premblyd.seal.starting import data_keys

LOOKED_AT = 1000  # events from the oldest to the newest: of no more, all


@trouble()
def sealing(situation: Situation) -> Iterator[Item]:
    """Yield that events are stored in clear though `encryption` has a key, and that a data key of
    `old_keys` is needed still. Who may not read the key is told nothing of it."""
    try:
        vault = situation.settings.vault if situation.settings else None
    except CannotStartError:  # `check` says what to install; all else can be told still
        return
    if vault is None or vault.seals_with is None:
        return
    if _finds_clear(situation.database):
        yield Item(
            text="Events that came before `encryption` had a key are stored in clear.",
            remedy="`rekey` seals them while the daemon works.",
            command="sudo premblyd rekey",
            about="clear",
        )
    others = {*situation.database.look(data_keys)} & {*vault.opens} - {vault.seals_with}
    if others:
        yield Item(
            text=f"What is stored needs the data key {', '.join(sorted(others))} still, beside the"
            " one that seals.",
            remedy="`rekey` gives all to that one; then the other need not be kept.",
            command="sudo premblyd rekey",
            about="old key",
        )


def _finds_clear(database: Database) -> bool:
    """Return whether any of LOOKED_AT events is in clear. They lie apart: the oldest may be of
    nobody any more, and a `rekey` that was ended has sealed those first. `check` looks at all."""
    # One by one, else SQLite reads all between.
    first, last = (
        queries.value(database, Event.select(each(Event.id))) for each in (fn.MIN, fn.MAX)
    )
    if first is None:
        return False
    numbers = list(range(first, last + 1, max(1, -(-(last + 1 - first) // LOOKED_AT))))
    clear = Event.select(fn.MIN(Event.id)).where(Event.id.in_(numbers), IS_CLEAR)
    return queries.value(database, clear) is not None
