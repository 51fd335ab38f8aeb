"""What was stored in clear is sealed, and events' keys are given to another data key."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from premblyd.databases import DatabaseAddress
from premblyd.engines.connections import backend, connect_read_only
from premblyd.engines.engine import Database, Transaction
from premblyd.errors import CannotStartError, StoreUnavailableError
from premblyd.hosts.identity import of_this_process
from premblyd.hosts.register import Hosts
from premblyd.keep import rekeying
from premblyd.keep.rekeying import Done
from premblyd.model.keeptables import Lacks
from premblyd.queue.jobs import Confirmed
from premblyd.record import events
from premblyd.record.troubles import table
from premblyd.record.troubles.trouble import Situation
from premblyd.seal.starting import HostKeys, HostsLackKeyError
from premblyd.vault import MARK, DataKey, Vault
from tests.support.queue import SUCCEEDED, claim, finish
from tests.support.rows import for_each
from tests.support.sealing import KEY, OTHER_KEY, VAULT, everything, opened
from tests.support.store import NOW_MS, Store, new_event, store_at

OTHER = DataKey.read(OTHER_KEY)
ROTATED = Vault(OTHER, [DataKey.read(KEY)])


def nothing(_: Done) -> None: ...


def rekey(
    place: DatabaseAddress, vault: Vault | None = VAULT, advanced: Callable[[Done], None] = nothing
) -> Done:
    with closing(backend(place, vault).connect_operator()) as database:
        return rekeying.rekey(database, "ada", advanced)


def standing(place: DatabaseAddress, vault: Vault = VAULT) -> rekeying.Standing:
    with closing(connect_read_only(place, vault)) as database:
        return rekeying.standing(database)


def fill(store: Store) -> None:
    """Store an event whose hook has run and was confirmed, and one that waits."""
    store.add("crm", detail="hush-detail", headers='[["X","hush-header"]]')
    [job] = claim(store, crm=1).jobs
    assert store.wait(store.queue.confirm(job, Confirmed(facts={"reference": "hush-1"}), NOW_MS))
    assert finish(store, job, replace(SUCCEEDED, output="hush-output"))
    store.add("crm", body=b'{"hush": 2}', reference="ref-2")


def test_what_was_in_clear_is_sealed_and_read_as_it_came(store: Store) -> None:
    fill(store)
    assert standing(store.place).in_clear == 2
    done = rekey(store.place)
    assert (done.sealed, done.wrapped, done.damaged) == (2, 0, [])
    assert b"hush" not in everything(store)
    found = standing(store.place)
    assert (found.in_clear, found.by_data_key) == (0, {VAULT.seals_with: 2})
    came = new_event(detail="hush-detail", headers='[["X","hush-header"]]')
    with store_at(store.place, VAULT) as sealed:
        for name in ("body", "headers", "token"):
            assert opened(sealed, "event", name, 1) == getattr(came, name)
        for name in ("session_id", "detail"):
            assert opened(sealed, "event", name, 1) == getattr(came.verdict, name)
        assert opened(sealed, "attempt", "output", 1) == "hush-output"
        assert "hush-1" in opened(sealed, "delivery", "confirmed_facts", 1)
        [job] = claim(sealed, crm=1).jobs
        assert job.event.body == b'{"hush": 2}'


def test_sealing_anew_changes_nothing(store: Store) -> None:
    fill(store)
    rekey(store.place)
    before = everything(store).replace(b"rekey", b"")
    done = rekey(store.place)
    assert (done.sealed, done.wrapped) == (0, 0)
    rows = "SELECT key, body, token, session_digest FROM event JOIN event_key USING (id)"
    assert all(bytes(body) in before for _, body, _, _ in store.rows(rows))


def test_a_session_is_found_as_those_that_arrive_sealed(store: Store) -> None:
    store.add()
    rekey(store.place)
    with store_at(store.place, VAULT) as sealed:
        sealed.add(body=b"2")
        [(one,), (other,)] = store.rows("SELECT session_digest FROM event ORDER BY id")
    assert one == other


@for_each("lacks", [Lacks.IDENTITY, Lacks.ERASED])
def test_what_names_nobody_any_more_gets_no_key(store: Store, lacks: Lacks) -> None:
    store.add()
    store.by_hand(f"UPDATE event SET lacks = '{lacks}'")
    assert rekey(store.place).sealed == 0
    assert store.rows("SELECT count(*) FROM event_key") == [(0,)]


def test_what_was_emptied_stays_empty(store: Store) -> None:
    store.add()
    store.by_hand("UPDATE event SET lacks = 'body', headers = '[]', body = ''")
    rekey(store.place)
    assert store.rows("SELECT headers, length(body) FROM event") == [("[]", 0)]
    with store_at(store.place, VAULT) as sealed:
        assert opened(sealed, "event", "token", 1) == "hush-token"


def test_a_body_that_looks_sealed_is_sealed_as_it_is(store: Store) -> None:
    store.add("crm", body=MARK + b"chosen")
    rekey(store.place)
    with store_at(store.place, VAULT) as sealed:
        [job] = claim(sealed, crm=1).jobs
    assert job.event.body == MARK + b"chosen"


def test_another_data_key_gets_the_keys_and_no_body_changes(sealed: Store) -> None:
    fill(sealed)
    bodies = sealed.rows("SELECT body, headers, token FROM event ORDER BY id")
    assert standing(sealed.place, ROTATED).to_wrap == 2
    done = rekey(sealed.place, ROTATED)
    assert (done.sealed, done.wrapped) == (0, 2)
    assert standing(sealed.place, ROTATED).by_data_key == {OTHER.id: 2}
    assert sealed.rows("SELECT body, headers, token FROM event ORDER BY id") == bodies
    with closing(connect_read_only(sealed.place, Vault(OTHER))) as database:
        assert events.find_event(database, "1").body == b'{"hush": "body"}'


def test_a_key_that_was_changed_is_told_and_keeps_none_of_the_others(sealed: Store) -> None:
    keys = [sealed.add(body=b"%d" % number) for number in range(3)]
    key = sealed.rows("SELECT key FROM event WHERE id = ?", keys[1].event_id)[0][0]
    anothers = "(SELECT wrapped FROM event_key WHERE id = 1)"
    sealed.by_hand(f"UPDATE event_key SET wrapped = {anothers} WHERE id = 2")
    done = rekey(sealed.place, ROTATED)
    assert (done.wrapped, done.damaged) == (2, [key])
    found = standing(sealed.place, ROTATED)
    assert found.by_data_key == {VAULT.seals_with: 1, OTHER.id: 2}


def test_who_was_ended_goes_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rekeying, "MOST_SEALED", 1)
    for number in range(3):
        store.add(body=b"%d" % number)

    def end(done: Done) -> None:
        if done.sealed == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        rekey(store.place, advanced=end)
    assert standing(store.place).in_clear == 1
    assert rekey(store.place).sealed == 1


def test_without_a_key_nothing_is_sealed(store: Store) -> None:
    store.add()
    for vault in (None, Vault(None, [OTHER])):
        with pytest.raises(CannotStartError, match="encryption"):
            rekey(store.place, vault)
    assert store.rows("SELECT count(*) FROM event_key") == [(0,)]


def test_nothing_is_sealed_that_a_daemon_could_not_open(store: Store) -> None:
    store.add()
    with closing(connect_read_only(store.place)) as database:
        now_ms = database.now_ms()
    store.by_hand(
        "INSERT INTO host (worker, name, pid, version, started_at_ms, seen_at_ms)"
        f" VALUES ('w', 'paris', 1, '0', {now_ms}, {now_ms})"
    )
    for keys in ("NULL", "'-'", "'- ab'"):  # None: of a daemon that knows no keys
        store.by_hand(f"UPDATE host SET data_keys = {keys}")
        with pytest.raises(HostsLackKeyError, match="paris"):
            rekey(store.place)
    assert standing(store.place).in_clear == 1
    store.by_hand(f"UPDATE host SET data_keys = '- {VAULT.seals_with}'")
    assert rekey(store.place).sealed == 1


def join_long_ago(store: Store, **identity: Any) -> None:
    """Have a daemon begin that has no data key, and that nobody sees beat: as one on SQLite."""
    own = replace(of_this_process("alone"), **identity)
    store.wait(Hosts(store.writer, own, keys=HostKeys.of(None)).join_alone(NOW_MS))


def test_a_daemon_that_has_the_database_for_itself_is_at_work_however_long(store: Store) -> None:
    store.add()
    join_long_ago(store)
    with pytest.raises(HostsLackKeyError, match="alone"):
        rekey(store.place)
    assert standing(store.place).in_clear == 1


def test_a_daemon_that_is_dead_is_not_waited_for(store: Store) -> None:
    store.add()
    join_long_ago(store, process_start=1)  # its number is another process's by now
    assert rekey(store.place).sealed == 1


@for_each("emptied", ["", ", body = '', headers = '[]'"])
def test_an_event_whose_key_is_gone_is_not_sealed_anew(sealed: Store, emptied: str) -> None:
    """Else a hook would get what is sealed."""
    sealed.add("crm")
    sealed.by_hand("DELETE FROM event_key")
    sealed.by_hand(f"UPDATE event SET duplicate_count = 0{emptied}")
    [(key,)] = sealed.rows("SELECT key FROM event")
    done = rekey(sealed.place)
    assert (done.sealed, done.damaged) == (0, [key])
    assert sealed.rows("SELECT count(*) FROM event_key") == [(0,)]


def test_what_had_to_be_done_again_is_counted_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add()
    with closing(database_at(store.place)) as database:
        transact, fails = database.transact, iter([False, True])  # once it has begun

        def fail_once(work: Callable[[Transaction], Any], *, alone: bool = False) -> Any:
            def failing(transaction: Transaction) -> Any:
                done = work(transaction)
                if next(fails, False):
                    raise StoreUnavailableError("deadlock")
                return done

            return transact(failing, alone=alone)

        monkeypatch.setattr(database, "transact", fail_once)
        monkeypatch.setattr(rekeying, "AGAIN_S", 0)
        assert rekeying.rekey(database, "ada", nothing).sealed == 1


def test_a_daemon_that_starts_meanwhile_and_could_not_open_it_ends_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rekeying, "MOST_SEALED", 1)
    for number in range(3):
        store.add(body=b"%d" % number)
    with closing(connect_read_only(store.place)) as database:
        now_ms = database.now_ms()

    def join(done: Done) -> None:
        if done.sealed == 1:
            store.by_hand(
                "INSERT INTO host (worker, name, pid, version, started_at_ms, seen_at_ms)"
                f" VALUES ('w', 'paris', 1, '0', {now_ms}, {now_ms})"
            )

    with pytest.raises(HostsLackKeyError, match="paris"):
        rekey(store.place, advanced=join)
    assert standing(store.place).in_clear == 2


def test_sealing_keeps_older_programs_out_and_is_on_record(store: Store) -> None:
    store.add()
    rekey(store.place)
    assert store.rows("SELECT migration FROM schema_floor") == [("0010_sealing",)]
    [(actor, action, note)] = store.rows("SELECT actor, action, note FROM operator_action")
    assert (actor, action, note) == ("ada", "rekey", f"by data key {VAULT.seals_with}")


def test_what_comes_meanwhile_is_left_to_the_daemon(store: Store) -> None:
    store.add()
    with store_at(store.place, VAULT) as sealed:

        def arrive(_: Done) -> None:
            sealed.add(body=b"2")

        done = rekey(store.place, advanced=arrive)
    assert done.sealed == 1
    assert standing(store.place).in_clear == 0


def troubles(place: DatabaseAddress, vault: Vault | None) -> list[str]:
    own: Any = SimpleNamespace(vault=vault)
    with closing(connect_read_only(place, vault)) as database:
        situation = Situation(record=database, now_ms=NOW_MS, settings=own)
        return [item.about for item in table.items(situation, kinds=["sealing"])]


def test_what_rekey_that_was_ended_has_left_needs_attention(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where not all are looked at: it has sealed the oldest."""
    monkeypatch.setattr(rekeying, "MOST_SEALED", 1)
    monkeypatch.setattr("premblyd.record.troubles.sealing.LOOKED_AT", 3)
    for number in range(8):
        store.add(body=b"%d" % number)

    def end(done: Done) -> None:
        if done.sealed == 4:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        rekey(store.place, advanced=end)
    assert troubles(store.place, VAULT) == ["clear"]


def test_what_rekey_would_do_needs_attention_until_it_is_done(store: Store) -> None:
    assert troubles(store.place, VAULT) == []
    store.add()
    assert troubles(store.place, VAULT) == ["clear"]
    assert troubles(store.place, None) == []
    rekey(store.place)
    assert troubles(store.place, VAULT) == []
    assert troubles(store.place, ROTATED) == ["old key"]
    assert troubles(store.place, Vault(OTHER)) == []  # the daemon can't start, and rekey not do it
    rekey(store.place, ROTATED)
    assert troubles(store.place, ROTATED) == []


def database_at(place: DatabaseAddress) -> Database:
    return backend(place, VAULT).connect_operator()


def test_whether_anything_is_in_clear_is_known(store: Store) -> None:
    with closing(database_at(store.place)) as database:
        clear = partial(rekeying.has_clear, database)
        assert not clear()
        store.add()
        assert clear()
        rekey(store.place)
        assert not clear()
