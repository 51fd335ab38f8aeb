"""`rekey --names` leaves a database in which daemons can work, and nothing in clear, whatever was
there before."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from premblyd.databases import DatabaseAddress
from premblyd.engines.connections import backend, connect_operator
from premblyd.errors import CannotStartError, PremblydError
from premblyd.keep import closings, erasing, holds, rekeying, restoring, sealnames
from premblyd.keep.erasing import Request
from premblyd.keep.holds import Subject
from premblyd.keep.persons import Named
from premblyd.keep.restoring import OtherRecordError
from premblyd.prembly.payload import Outcome
from premblyd.queue.inbox import add_event
from premblyd.queue.oncekeys import once_key
from premblyd.vault import Vault
from premblyd.verifications import pseudonyms
from premblyd.verifications.awaited import AwaitedQueue
from tests.seal import test_identity
from tests.seal.test_identity import (
    NAMES,
    SPELT,
    UUID,
    arrive,
    convert,
    erase,
    in_clear,
    pseudonym,
)
from tests.support.commands import run
from tests.support.database import rows
from tests.support.queue import claim_once
from tests.support.sealing import KEY, VAULT, everything, host
from tests.support.store import NOW_MS, Store, new_event, store_at

clear, named = test_identity.clear, test_identity.named
USER = Named.user("hush-user")
ON_SQLITE = pytest.mark.parametrize("place", ["sqlite"], indirect=True)


def end_holds(place: DatabaseAddress) -> None:
    with closing(connect_operator(place, VAULT)) as database:
        for number in (1, 2):
            database.transact(holds.end(number, actor="ada", now_ms=NOW_MS))


def test_what_ran_once_counts_where_only_that_is_left(place: DatabaseAddress) -> None:
    gone = "INSERT INTO gone_once (action, once_key, delivery_id) VALUES ('crm', ?, 99)"
    with store_at(place, VAULT) as store:
        store.by_hand(gone, once_key("hush-gone", Outcome.VERIFIED))
        store.by_hand("INSERT INTO gone_event (key, event_id) VALUES ('x', 99)")
    refused = pytest.raises(CannotStartError, match="rekey --names")
    with store_at(place, NAMES, seals_names=False) as store, refused:
        store.wait(host(store, "first", NAMES).join((), NOW_MS))
    convert(place)
    with store_at(place, NAMES) as store:
        arrive(store, "crm", reference="hush-gone")
        assert claim_once(store).jobs == []


def test_an_empty_name_is_not_in_clear(place: DatabaseAddress) -> None:
    with store_at(place, VAULT) as store:
        arrive(store, reference="", user_ref="")
    convert(place)
    with closing(connect_operator(place, NAMES)) as database:
        assert sealnames.in_clear(database).events == 0


def test_nothing_is_begun_where_a_key_can_t_be_opened(clear: DatabaseAddress) -> None:
    with closing(connect_operator(clear, NAMES)) as database:
        rekeying.rekey(database, "ada", lambda _: None)
    with store_at(clear, VAULT) as store:
        store.by_hand("UPDATE event_key SET wrapped = ? WHERE id = 2", b"x" * 60)
        with pytest.raises(PremblydError, match="key of event 2 can't be opened"):
            convert(clear)
        assert store.rows("SELECT names FROM digest_key") == [(None,)]
    end_holds(clear)
    with closing(connect_operator(clear, VAULT)) as database:
        erasing.erase(database, Request(named=Named.event(2), actor="ada"))
    assert convert(clear) == 2


def test_an_erasure_that_was_ended_goes_on_afterwards(
    clear: DatabaseAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(connect_operator(clear, NAMES)) as database:
        rekeying.rekey(database, "ada", lambda _: None)
    end_holds(clear)
    monkeypatch.setattr(erasing, "MOST_AT_ONCE", 1)
    with closing(connect_operator(clear, VAULT)) as database:
        interrupt(database, monkeypatch, after=2)
        with pytest.raises(Ended):
            erasing.erase(database, Request(named=USER, actor="ada"))
        monkeypatch.undo()  # closing it has some too
    assert "hush-user" in {user_ref for (user_ref,) in user_refs(clear)}
    convert(clear)
    convert(clear)
    with closing(connect_operator(clear, NAMES)) as database:
        assert sealnames.in_clear(database).events == 0
    with store_at(clear, NAMES) as store:
        assert in_clear(store) == []
        erase(store, USER)
        assert store.rows("SELECT count(*) FROM to_erase") == [(0,)]
        assert {user_ref for (user_ref,) in user_refs(clear)} == {None}


def user_refs(place: DatabaseAddress) -> list[tuple[Any, ...]]:
    with store_at(place, VAULT) as store:
        return store.rows("SELECT user_ref FROM event")


class Ended(Exception):
    """That a program was ended."""


def interrupt(database: Any, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Have a program be ended behind so many transactions of a database."""
    whole, left = database.transact, iter(range(after))

    def transact(work: Any, *, alone: bool = False) -> Any:
        if next(left, None) is None:
            raise Ended
        return whole(work, alone=alone)

    monkeypatch.setattr(database, "transact", transact)


@pytest.mark.parametrize("reason", ["by HUSH-USER", f"see {UUID}", "see " + SPELT.replace("_", "")])
def test_no_spelling_of_a_name_is_in_a_reason(named: Store, reason: str) -> None:
    arrive(named, reference=SPELT)
    for subject in (Subject(user_ref="hush-user"), Subject(reference=UUID)):
        change = holds.place(subject, actor="ada", now_ms=NOW_MS, reason=reason)
        named.wait(named.writer.call(change))
    about = reason.partition(" ")[0]
    assert named.rows("SELECT reason FROM hold") == [(f"{about} (the name)",)] * 2


@pytest.mark.parametrize("subject", [Subject(user_ref="hush-user"), Subject(reference=SPELT)])
def test_webhooks_do_not_wait_for_the_names_of_many_events(
    named: Store, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("premblyd.keep.persons.find", None)  # which reads all
    events = [
        named.inbox.add(new_event(b"%d" % number, reference=SPELT, user_ref="hush-user"), ())
        for number in range(holds.MANY + 1)
    ]
    named.wait_all(events)
    reason = f"{subject.user_ref or subject.reference} asked"
    place = holds.place(subject, actor="ada", now_ms=NOW_MS, reason=reason)
    named.wait(named.writer.call(place))
    assert named.rows("SELECT reason FROM hold") == [("(the name) asked",)]


def test_what_has_lost_its_name_is_not_asked_by_its_pseudonym(named: Store) -> None:
    arrive(named, **test_identity.PENDING)
    named.by_hand("UPDATE event SET sealed_reference = NULL")
    due = named.wait(AwaitedQueue(named.writer).due(NOW_MS + 2, 9, ()))
    assert due.waiting == []
    assert named.rows("SELECT state FROM awaited") == [("given_up",)]


def test_a_command_that_began_before_stores_no_name_in_clear(clear: DatabaseAddress) -> None:
    with closing(connect_operator(clear, VAULT)) as command:
        assert not command.transact(pseudonyms.of).is_sealed
        convert(clear)
        webhook = new_event(b"late", reference="hush-late", user_ref="hush-late")
        command.transact(lambda transaction: add_event(transaction, webhook, ()))
    with store_at(clear, NAMES) as store:
        assert store.rows("SELECT count(*) FROM event") == [(4,)]
        assert in_clear(store) == []


# --- With the command -----------------------------------------------------------------------------


def configured(place: Path, **encryption: str) -> Path:
    key, config = place.with_name("key"), place.with_name("premblyd.yaml")
    key.write_text(KEY)
    given = "".join(f", {name}: {value}" for name, value in encryption.items())
    config.write_text(
        f"database: sqlite:///{place}\nencryption: {{key: {{file: key}}{given}}}\n"
        "endpoints: [{name: prembly, path: /prembly, keys: {live: k}}]\n"
    )
    return config


@ON_SQLITE
def test_it_says_that_names_are_in_the_log_until_they_are_not(clear: Path) -> None:
    config = configured(clear, identity="sealed")
    with closing(sqlite3.connect(clear, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT 1 FROM event").fetchall()
        convert(clear)  # and was ended behind that
        done = run("rekey", "--names", "--config", config)
        assert (done.code, "database's log" in done.err) == (75, True), done
        assert files_with(b"hush-reference", clear)
    done = run("rekey", "--names", "--config", config)
    assert (done.code, "0 events" in done.out) == (0, True), done
    assert files_with(b"hush-reference", clear) == []


def files_with(name: bytes, place: Path) -> list[str]:
    files = sorted(place.parent.glob(f"{place.name}*"))
    return [file.name for file in files if name in file.read_bytes()]


@ON_SQLITE
def test_nothing_is_sealed_by_names_where_these_are_to_stay(clear: Path) -> None:
    before = rows(clear, "SELECT count(*) FROM event_key")
    with store_at(clear, None) as store:
        store.add(body=b"clear")
    done = run("rekey", "--names", "--config", configured(clear))
    assert (done.code, "Nothing was changed" in done.err) == (78, True), done
    assert rows(clear, "SELECT count(*) FROM event_key") == before


# --- Copies from before and from after ------------------------------------------------------------


def copy_of(place: Path) -> Path:
    copy = place.with_name("copy.db")
    with closing(sqlite3.connect(place)) as own, closing(sqlite3.connect(copy)) as other:
        own.backup(other)
    return copy


def take_over(copy: Path, place: Path, of_copy: Vault, of_place: Vault) -> restoring.TakenOver:
    with closing(connect_operator(place, of_place)) as database:
        remembered = database.look(restoring.remember)
    with closing(connect_operator(copy, of_copy)) as database:
        return restoring.take_over(database, remembered)


@ON_SQLITE
def test_a_copy_of_before_can_be_converted_again(clear: Path) -> None:
    copy = copy_of(clear)
    convert(clear)
    with closing(connect_operator(clear, NAMES)) as database:
        for name in ("hush-user", "hush-new"):
            database.transact(closings.close(name, 2, actor="bob", now_ms=NOW_MS + 1))
    assert take_over(copy, clear, NAMES, NAMES).closings == 1
    convert(copy)
    ends = "SELECT user_ref, at_ms FROM closing ORDER BY user_ref"
    assert rows(copy, ends) == rows(clear, ends)


@ON_SQLITE
def test_a_copy_with_sealed_names_gets_none_in_clear(clear: Path) -> None:
    copy = copy_of(clear)
    convert(copy)
    with closing(connect_operator(clear, VAULT)) as database:
        for subject in (Subject(user_ref="hush-user"), Subject(reference="hush-waits")):
            name = subject.user_ref or subject.reference
            place = holds.place(
                subject, actor=f"of {subject.user_ref is None}", now_ms=NOW_MS + 5, reason=name
            )
            database.transact(place)
        for name in ("hush-user", "hush-new"):
            database.transact(closings.close(name, 2, actor="bob", now_ms=NOW_MS + 1))
    taken = take_over(copy, clear, NAMES, VAULT)
    assert (taken.holds, taken.closings) == (2, 1)
    with store_at(copy, NAMES) as store:
        assert in_clear(store) == []
        stands = pseudonym(store, "hush-waits")
        held = store.rows("SELECT reference, reason FROM hold WHERE actor = 'of True'")
        assert held == [(stands, "(the name)")]
        held_ = store.wait(store.writer.call(lambda one: holds.held(one, [2, 3], NOW_MS + 6)))
        assert held_ == {2, 3}


@ON_SQLITE
def test_who_is_erased_from_a_copy_is_in_no_note_of_it(clear: Path) -> None:
    convert(clear)
    end_holds(clear)
    note = "INSERT INTO operator_action (at_ms, actor, action, note) VALUES (1, 'ada', 'x', ?)"
    with store_at(clear, NAMES) as store:
        store.by_hand(note, "about hush-reference")
        copy = copy_of(clear)
        erase(store, USER)
        assert b"hush-reference" not in everything(store)
    take_over(copy, clear, NAMES, NAMES)
    with store_at(copy, NAMES) as store:
        assert b"hush-reference" not in everything(store)


@ON_SQLITE
def test_a_copy_of_another_record_keeps_its_pseudonyms(named: Store, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    backend(other).prepare()
    with store_at(other, NAMES) as store:
        store.add()
    arrive(named)
    erase(named, USER)
    with pytest.raises(OtherRecordError):
        take_over(other, named.path, NAMES, NAMES)
    with store_at(other, NAMES) as store:
        assert store.wait(store.writer.call(pseudonyms.of)).is_sealed
        assert store.rows("SELECT reference FROM event") == [(pseudonym(store, "ref-1"),)]
