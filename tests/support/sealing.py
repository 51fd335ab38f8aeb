"""Data keys, and what a database holds that is sealed by them."""

from typing import Any

from premblyd.engines.engine import Transaction
from premblyd.hosts.register import Hosts
from premblyd.model.columns import columns
from premblyd.model.tables import TABLES
from premblyd.seal import eventkeys
from premblyd.seal.starting import HostKeys
from premblyd.vault import MARK, TEXT_MARK, DataKey, Vault
from tests.support.hosts import identity
from tests.support.store import Store

KEY = "premblyd-data-key-1:" + "A" * 43 + "="
OTHER_KEY = "premblyd-data-key-1:" + "B" * 42 + "A="
VAULT = Vault(DataKey.read(KEY))
SEALED = {table: eventkeys.sealed_columns(table) for table in TABLES}


def host(store: Store, name: str, vault: Vault | None) -> Hosts:
    """Return a host that works with these keys."""
    return Hosts(store.writer, identity(name), keys=HostKeys.of(vault))


def opened(store: Store, table: str, column: str, row_id: int, event_id: int = 1) -> Any:
    """Return a value, opened by the key of its event."""
    [(value,)] = store.rows(f"SELECT {column} FROM {table} WHERE id = ?", row_id)

    def cipher(transaction: Transaction) -> Any:
        return eventkeys.ciphers(transaction, [event_id])[event_id]

    assert is_sealed(value)
    return store.wait(store.writer.call(cipher)).open(f"{table}.{column}", value)


def is_sealed(value: Any) -> bool:
    """Return whether a value looks sealed."""
    mark: Any = MARK if isinstance(value, bytes) else TEXT_MARK
    return isinstance(value, bytes | str) and value.startswith(mark)


def everything(store: Store) -> bytes:
    """Return all values of all tables, as bytes."""
    found = []
    for table in TABLES:
        names = ", ".join(column.column_name for column in columns(table))
        for row in store.rows(f"SELECT {names} FROM {table._meta.table_name}"):
            found += [value if isinstance(value, bytes) else str(value).encode() for value in row]
    return b"\n".join(found)
