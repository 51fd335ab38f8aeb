"""Whether a daemon may work on a record with the data keys that it has: looked at before anything
is changed, and again among the other hosts in the transaction in which it joins them.

All hosts must open what one of them seals. So a key is named as an old one everywhere first, and
seals only then.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Self

from peewee import fn

from premblyd.engines.engine import Database, Statement, Transaction, param
from premblyd.errors import CannotStartError, TryAgainError
from premblyd.model.keeptables import DigestKey, EventKey
from premblyd.model.tables import Event
from premblyd.vault import DamagedError, LacksKeyError, Vault, data_key_of

FLOOR = "0010_sealing"  # what a program must know that opens what is sealed
_NONE = "-"


class SealedElsewhereError(CannotStartError):
    """Another host seals with a data key that this one does not have. Name it here too."""


class UnreadKeyError(CannotStartError):
    """`encryption` names data keys, of which this user may read none."""

    lacks_rights = True


class HostsLackKeyError(TryAgainError):
    """Other hosts could not open what this one would seal. Name the key there first."""

    def __init__(self, names: Collection[str]) -> None:
        super().__init__(
            f"The daemon on {', '.join(sorted(names))} does not have the data key of"
            " `encryption: {key: …}`: hooks there could not run for what is sealed by it. Name it"
            " there, under `old_keys` where several hosts are, and restart that daemon; then again."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HostKeys:
    """With which data keys a host works, as its row in `host` has it."""

    seals_with: str | None
    opens: frozenset[str]

    @classmethod
    def of(cls, vault: Vault | None) -> Self:
        if vault is None:
            return cls(seals_with=None, opens=frozenset())
        return cls(seals_with=vault.seals_with, opens=frozenset(vault.opens))

    @classmethod
    def read(cls, text: Any) -> Self:
        """Read what `text` wrote; None: by a premblyd that knows of no keys."""
        first, *others = text.split() if isinstance(text, str) and text.strip() else [_NONE]
        seals_with = None if first == _NONE else first
        return cls(seals_with=seals_with, opens=frozenset([*others, *filter(None, [seals_with])]))

    @property
    def text(self) -> str:
        return " ".join([self.seals_with or _NONE, *sorted(self.opens - {self.seals_with})])


def require_keys(database: Database) -> None:
    """Raise CannotStartError when the record has what is sealed by a data key that is not here. It
    only reads, also a database that has no such table yet."""
    if not database.table_exists(EventKey):
        return
    database.look(require_opens)


def require_together(own: HostKeys, others: Sequence[tuple[str, Any]]) -> None:
    """Raise CannotStartError, or HostsLackKeyError, when this host could not open what another
    seals, or another what this one does. `others`: their names, and `data_keys`."""
    known = [(name, HostKeys.read(text)) for name, text in others]
    for name, keys in known:
        if keys.seals_with is not None and keys.seals_with not in own.opens:
            raise SealedElsewhereError(
                f"The host {name} seals with the data key {keys.seals_with}, which `encryption`"
                " does not name here: name it under `old_keys`, or as `key`."
            )
    if own.seals_with is not None:
        lacking = {name for name, keys in known if own.seals_with not in keys.opens}
        if lacking:
            raise HostsLackKeyError(lacking)


def data_keys(transaction: Transaction) -> list[str]:
    """Return the ids of the data keys by which anything is sealed: the keys of events, by an index,
    one look for each; and the key of the digests."""
    found: list[str] = []
    while (row := transaction.row(_NEXT, after=found[-1] if found else "")) and row[0] is not None:
        found.append(str(row[0]))
    row = transaction.row(_DIGEST_KEY)
    own = data_key_of(bytes(row[0])) if row else None
    return found if own is None or own in found else [*found, own]


def require_opens(transaction: Transaction) -> None:
    """Raise CannotStartError when something is sealed by a data key that is not here."""
    opens = () if transaction.vault is None else transaction.vault.opens
    if lacking := [each for each in data_keys(transaction) if each not in opens]:
        kind = CannotStartError
        if transaction.vault is None:
            what = "`encryption: {key: …}` must name"
        elif opens:
            what = "`encryption` does not name: name it under `old_keys`"
        else:
            kind, what = UnreadKeyError, "this user may not read, or which is not there"
        raise kind(
            f"What is stored is sealed by the data key {', '.join(lacking)}, which {what}. Without"
            " it nobody opens that again but `premblyd restore`, from a keys' copy. Nothing was"
            " changed."
        )
    row = transaction.row(_NEWEST)
    if row is None or transaction.vault is None:
        return
    try:
        transaction.vault.cipher(*row)
    except (LacksKeyError, DamagedError):
        raise CannotStartError(
            "The newest key of an event can't be opened by its data key: the database was changed"
            " by hand. Restore a copy. Nothing was changed."
        ) from None


_NEXT = Statement(
    EventKey.select(fn.MIN(EventKey.data_key)).where(EventKey.data_key > param("after"))
)
_DIGEST_KEY = Statement(DigestKey.select(DigestKey.key).order_by(DigestKey.id).limit(1))
_NEWEST = Statement(
    EventKey.select(Event.key, EventKey.data_key, EventKey.wrapped)
    .join_from(EventKey, Event, on=Event.id == EventKey.id)
    .order_by(EventKey.id.desc())
    .limit(1)
)
