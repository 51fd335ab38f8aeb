"""With which data keys a daemon may start: on its own, and beside others."""

from pathlib import Path

import pytest

from premblyd.databases import DatabaseAddress
from premblyd.engines.connections import backend
from premblyd.errors import CannotStartError, PremblydError
from premblyd.seal.starting import (
    HostKeys,
    HostsLackKeyError,
    SealedElsewhereError,
    require_keys,
    require_together,
)
from premblyd.vault import DataKey, Vault
from tests.support.rows import for_each
from tests.support.sealing import KEY, OTHER_KEY, VAULT, host
from tests.support.store import NOW_MS, Store, store_at

OTHER = DataKey.read(OTHER_KEY)
BOTH = Vault(OTHER, [DataKey.read(KEY)])
FLOOR = "SELECT migration FROM schema_floor"


def start(place: DatabaseAddress, vault: Vault | None) -> None:
    """Do as a daemon does before it changes anything."""
    assert backend(place, vault).prepare(require_keys) == []


@for_each("vault", [None, VAULT, BOTH])
def test_what_is_not_sealed_needs_no_key(store: Store, vault: Vault | None) -> None:
    store.add("crm")
    start(store.place, vault)


@for_each(
    ("vault", "words"),
    [
        (None, "`encryption: {key: …}` must name"),
        (Vault(None), "this user may not read"),
        (Vault(OTHER), "`encryption` does not name: name it under `old_keys`"),
    ],
)
def test_without_the_data_key_a_daemon_does_not_start(
    sealed: Store, vault: Vault | None, words: str
) -> None:
    sealed.add("crm")
    with pytest.raises(CannotStartError, match=words) as refused:
        start(sealed.place, vault)
    assert refused.value.exit_code == 78
    assert refused.value.lacks_rights is (vault is not None and not vault.opens)
    assert DataKey.read(KEY).id in str(refused.value)
    start(sealed.place, VAULT)
    start(sealed.place, BOTH)


def test_every_data_key_that_is_used_must_be_there(place: DatabaseAddress) -> None:
    for vault, body in ((VAULT, b"1"), (BOTH, b"2"), (BOTH, b"3")):
        with store_at(place, vault) as store:
            store.add("crm", body=body)
    for vault, lacking in ((VAULT, OTHER.id), (Vault(OTHER), DataKey.read(KEY).id)):
        with pytest.raises(CannotStartError, match=lacking):
            start(place, vault)
    start(place, BOTH)


def test_a_changed_key_of_an_event_keeps_a_daemon_from_starting(sealed: Store) -> None:
    sealed.add("crm")
    sealed.by_hand("UPDATE event SET key = 'cd'")
    with pytest.raises(CannotStartError, match="Restore"):
        start(sealed.place, VAULT)


def test_a_new_database_is_made_with_a_vault(tmp_path: Path) -> None:
    assert backend(tmp_path / "new.db", VAULT).prepare(require_keys)


@for_each(
    ("keys", "text"),
    [
        (HostKeys.of(None), "-"),
        (HostKeys.of(VAULT), DataKey.read(KEY).id),
        (HostKeys.of(BOTH), f"{OTHER.id} {DataKey.read(KEY).id}"),
        (HostKeys.of(Vault(None, [OTHER])), f"- {OTHER.id}"),
    ],
)
def test_a_host_tells_with_which_keys_it_works(keys: HostKeys, text: str) -> None:
    assert keys.text == text
    assert HostKeys.read(text) == keys
    assert HostKeys.read(None) == HostKeys.of(None)


@for_each(
    ("own", "others"),
    [
        (None, [("a", None), ("b", "-")]),
        (VAULT, []),
        (VAULT, [("a", f"- {DataKey.read(KEY).id}")]),
        (BOTH, [("a", HostKeys.of(Vault(DataKey.read(KEY), [OTHER])).text)]),
    ],
)
def test_hosts_work_together_that_open_what_each_seals(
    own: Vault | None, others: list[tuple[str, str | None]]
) -> None:
    require_together(HostKeys.of(own), others)


def test_a_host_must_open_what_another_seals() -> None:
    with pytest.raises(SealedElsewhereError, match=OTHER.id):
        require_together(HostKeys.of(VAULT), [("a", HostKeys.of(BOTH).text)])


def test_sealing_waits_for_every_living_host(store: Store) -> None:
    store.wait(host(store, "old", None).join((), NOW_MS))
    store.wait(host(store, "rolled", Vault(None, [DataKey.read(KEY)])).join((), NOW_MS))
    new = host(store, "new", VAULT)
    with pytest.raises(HostsLackKeyError, match="The daemon on old does") as refused:
        store.wait(new.join((), NOW_MS))
    assert refused.value.exit_code == 75
    assert store.rows("SELECT name FROM host ORDER BY id") == [("old",), ("rolled",)]
    assert store.rows(FLOOR) < [("0010_sealing",)]
    store.wait(host(store, "old", None).leave(NOW_MS))
    store.wait(new.join((), NOW_MS))
    assert store.rows(FLOOR) == [("0010_sealing",)]


def test_who_is_taken_for_dead_is_not_waited_for(store: Store) -> None:
    store.wait(host(store, "dead", None).join((), NOW_MS))
    store.wait(host(store, "new", VAULT).join(["dead:1:boot"], NOW_MS))


def test_who_has_not_been_seen_for_long_is_not_waited_for_and_does_not_come_back(
    store: Store,
) -> None:
    old = host(store, "old", None)
    store.wait(old.join((), NOW_MS))
    store.wait(host(store, "new", VAULT).join((), NOW_MS + 3_600_000))
    for come_back in (old.require_fit, old.revive):  # whose row counts still, and does not
        with pytest.raises(SealedElsewhereError, match="The host new"):
            store.wait(come_back(NOW_MS + 3_600_001))


def test_a_host_that_lacks_a_key_does_not_join_those_that_seal_by_it(store: Store) -> None:
    store.wait(host(store, "seals", VAULT).join((), NOW_MS))
    for vault in (None, Vault(OTHER)):
        with pytest.raises(PremblydError, match="The host seals") as refused:
            store.wait(host(store, "late", vault).join((), NOW_MS))
        assert refused.value.exit_code == 78
    opens = Vault(None, [DataKey.read(KEY)])
    store.wait(host(store, "late", opens).join((), NOW_MS))


@for_each("vault", [None, Vault(OTHER)])
def test_what_was_sealed_since_a_daemon_looked_keeps_it_from_joining(
    sealed: Store, vault: Vault | None
) -> None:
    sealed.add("crm")
    with store_at(sealed.place, vault) as store:
        late = host(store, "late", vault)
        for join in (late.join_alone(NOW_MS), late.join((), NOW_MS)):
            with pytest.raises(CannotStartError, match="Without it"):
                store.wait(join)
    assert sealed.rows("SELECT count(*) FROM host") == [(0,)]


def test_a_daemon_alone_raises_the_floor_when_it_seals(store: Store) -> None:
    store.wait(host(store, "plain", None).join_alone(NOW_MS))
    assert store.rows(FLOOR) < [("0010_sealing",)]
    store.wait(host(store, "seals", VAULT).join_alone(NOW_MS))
    assert store.rows(FLOOR) == [("0010_sealing",)]
    assert store.rows("SELECT data_keys FROM host ORDER BY id") == [("-",), (DataKey.read(KEY).id,)]
