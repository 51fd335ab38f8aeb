"""The key of the digests that outlast a name: with `encryption` it is sealed, and never changes."""

from contextlib import closing

import pytest

from premblyd.engines.connections import connect_operator
from premblyd.errors import CannotStartError
from premblyd.keep import erasing, rekeying, restoring
from premblyd.keep.erasing import Request
from premblyd.keep.persons import Named
from premblyd.seal.starting import data_keys, require_keys
from premblyd.vault import MARK, DataKey, LacksKeyError, Vault
from premblyd.verifications.digests import Digests
from tests.seal.test_starting import OTHER
from tests.support.sealing import KEY, VAULT, host
from tests.support.store import NOW_MS, Store, store_at

STORED = "SELECT key FROM digest_key"


def stored(store: Store) -> bytes:
    [(key,)] = store.rows(STORED)
    return bytes(key)


def digest(store: Store) -> str:
    return store.wait(store.writer.call(Digests.of)).of_reference("ref-1")


def test_a_daemon_that_seals_seals_it_and_another_data_key_takes_it_over(store: Store) -> None:
    plain, digest_before = stored(store), digest(store)
    store.wait(host(store, "plain", None).join_alone(NOW_MS))
    assert stored(store) == plain
    rotated = Vault(OTHER, [DataKey.read(KEY)])
    for number, vault in enumerate((VAULT, rotated)):
        with store_at(store.place, vault) as sealing:
            sealing.wait(host(sealing, f"seals{number}", vault).join_alone(NOW_MS))
            sealed = stored(sealing)
            assert sealed.startswith(MARK)
            assert plain not in sealed
            assert digest(sealing) == digest_before
            assert sealing.wait(sealing.writer.call(data_keys)) == [vault.seals_with]
            sealing.wait(host(sealing, f"again{number}", vault).join_alone(NOW_MS))
            assert stored(sealing) == sealed, "it is sealed once"


def test_without_the_data_key_nobody_can_make_digests(store: Store) -> None:
    with store_at(store.place, VAULT) as sealing:
        sealing.wait(host(sealing, "seals", VAULT).join_alone(NOW_MS))
    with pytest.raises(LacksKeyError, match=DataKey.read(KEY).id):
        digest(store)
    with (
        closing(connect_operator(store.place, Vault(OTHER))) as database,
        pytest.raises(CannotStartError, match=DataKey.read(KEY).id),
    ):
        require_keys(database)


def test_who_was_erased_stays_so_by_a_sealed_key(sealed: Store) -> None:
    sealed.add("crm")
    sealed.wait(host(sealed, "seals", VAULT).join_alone(NOW_MS))
    with closing(connect_operator(sealed.place, VAULT)) as database:
        erasing.erase(database, Request(named=Named.reference("ref-1"), actor="ada"))
    assert sealed.add("crm", body=b"later").is_erased
    assert not sealed.add("crm", body=b"other", reference="ref-2", session_id="s").is_erased


def test_a_copy_from_before_takes_over_who_was_erased(store: Store) -> None:
    """Its own key lies there in clear; and what is put back is sealed."""
    with store_at(store.place, VAULT) as sealing:
        sealing.wait(host(sealing, "seals", VAULT).join_alone(NOW_MS))
        remembered = sealing.wait(sealing.writer.call(restoring.remember))
    assert len(remembered.key) == 32
    with closing(connect_operator(store.place, VAULT)) as copy:
        assert not restoring.take_over(copy, remembered).events


def test_rekey_seals_it_too(store: Store) -> None:
    with closing(connect_operator(store.place, VAULT)) as database:
        rekeying.rekey(database, "ada", lambda _: None)
    assert stored(store).startswith(MARK)
