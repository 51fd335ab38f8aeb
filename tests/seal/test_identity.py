"""`identity: sealed`: pseudonyms stand for names in all columns, and what goes out has names."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from premblyd.databases import DatabaseAddress
from premblyd.engines.connections import backend, connect_operator, connect_read_only
from premblyd.errors import CannotStartError, TryAgainError
from premblyd.hosts.naming import require_naming
from premblyd.keep import closings, erasing, holds, rekeying, sealnames
from premblyd.keep.erasing import Request
from premblyd.keep.holds import Subject
from premblyd.keep.persons import Named
from premblyd.model.columns import PERSONAL, columns
from premblyd.model.keeptables import Naming
from premblyd.model.tables import (
    TABLES,
    Awaited,
    Event,
    InquiryResult,
    Purpose,
    VerificationName,
)
from premblyd.prembly.payload import Outcome
from premblyd.privacy import Shape
from premblyd.queue.inbox import NewDelivery
from premblyd.queue.jobs import Claimable, Load
from premblyd.queue.oncekeys import once_key
from premblyd.queue.settling import Answers, NewAnswer
from premblyd.record import filters, naming, queries
from premblyd.times import now_ms
from premblyd.vault import DataKey, Vault
from premblyd.verifications import pseudonyms
from premblyd.verifications.awaited import AwaitedQueue
from premblyd.verifications.pseudonyms import ConvertingError, SealedNamesError
from tests.support.queue import SUCCEEDED, ask, claim, claim_once, finish
from tests.support.sealing import KEY, OTHER_KEY, VAULT, everything, host
from tests.support.store import NOW_MS, VERDICT, Store, new_event, store_at

NAMES = Vault(DataKey.read(KEY), seals_names=True)
UUID = "0b6ba2e4-6d83-4c43-ae3c-7a3ce2b1a001"
SPELT = UUID.replace("-", "_").upper()
PENDING: dict[str, Any] = {"outcome": Outcome.PENDING, "verification_status": "PENDING"}
PERSON: dict[str, Any] = {"reference": "hush-reference", "user_ref": "hush-user"}


@pytest.fixture
def named(place: DatabaseAddress) -> Iterator[Store]:
    """A store in which names are sealed from the first on."""
    with store_at(place, NAMES) as store:
        yield store


def arrive(store: Store, *actions: str, **changes: Any) -> int:
    deliveries = [NewDelivery(action, 3) for action in actions]
    about = {**PERSON, **changes}
    return store.wait(store.inbox.add(new_event(**about), deliveries, first_ask_ms=1)).event_id


def pseudonym(store: Store, reference: str) -> str:
    return store.wait(store.writer.call(pseudonyms.of)).reference(reference)


def in_clear(store: Store) -> list[bytes]:
    """Return the values that have a name."""
    return [each for each in everything(store).split(b"\n") if b"hush" in each]


def test_no_name_is_in_any_column(named: Store) -> None:
    event_id = arrive(named, "crm", **PENDING)
    ask(named, Purpose.PENDING, InquiryResult.UNSETTLED, "hush-reference", event_id=event_id)
    ask(named, Purpose.RECONCILE, InquiryResult.NOT_FOUND, "hush-other")
    answer = NewAnswer(
        webhook=new_event(b"answer", **PERSON),
        deliveries=[NewDelivery("crm", 3, "wait")],
        asked="hush-reference",
        names=["hush-reference", "hush-name"],
    )
    named.wait(Answers(named.writer).add(answer, None))
    for subject in (Subject(user_ref="hush-user"), Subject(reference="hush-reference")):
        reason = f"about {subject.user_ref or subject.reference}"
        change = holds.place(subject, actor="ada", now_ms=NOW_MS, reason=reason)
        named.wait(named.writer.call(change))
    named.wait(named.writer.call(closings.close("hush-user", 1, actor="ada", now_ms=NOW_MS)))
    [first, second] = claim_once(named).jobs + claim(named, crm=9).jobs
    assert first.order_key is None
    assert second.order_key is not None
    assert named.rows("SELECT count(*) FROM verification_name") == [(2,)]
    assert in_clear(named) == []


def test_a_hook_gets_the_names(named: Store) -> None:
    named.add("crm")
    [job] = claim(named, crm=1).jobs
    assert job.event.verdict == VERDICT


def test_prembly_is_asked_by_the_name(named: Store) -> None:
    arrive(named, reference=SPELT, **PENDING)
    due = named.wait(AwaitedQueue(named.writer).due(NOW_MS + 2, 9, ()))
    assert [each.name for each in due.waiting] == [SPELT]


@pytest.mark.parametrize("reference", [UUID, SPELT, UUID.replace("-", "")])
def test_what_is_awaited_is_settled_in_any_spelling(named: Store, reference: str) -> None:
    arrive(named, reference=SPELT, **PENDING)
    arrive(named, body=b"settles", reference=reference)
    assert named.rows("SELECT state, settled_by_id FROM awaited") == [("settled", 2)]


def test_a_name_that_looks_like_a_pseudonym_is_a_name(named: Store) -> None:
    arrive(named, reference="ref-1")
    of_another = pseudonym(named, "ref-1")
    arrive(named, body=b"forged", reference=of_another)
    assert named.rows("SELECT count(DISTINCT reference) FROM event") == [(2,)]
    assert pseudonym(named, of_another) != of_another


def test_once_and_order_know_each_name(named: Store) -> None:
    for number, reference in enumerate((UUID, SPELT, "other")):
        body, deliveries = b"%d" % number, [NewDelivery("crm", 3, "wait")]
        webhook = new_event(body, reference=reference)
        named.wait(named.inbox.add(webhook, deliveries))
    assert named.rows("SELECT waits_for_id FROM delivery ORDER BY id") == [(None,), (1,), (None,)]
    for job in claim_once(named).jobs:
        assert finish(named, job, SUCCEEDED)
    assert claim_once(named).jobs == []
    states = "SELECT state, ran_instead_id FROM delivery ORDER BY id"
    assert named.rows(states) == [("succeeded", None), ("skipped", 1), ("succeeded", None)]


def test_lists_show_the_names_to_who_has_the_key(named: Store) -> None:
    arrive(named, **PENDING)
    stands = pseudonym(named, "hush-reference")
    shown = {}
    for vault in (NAMES, None, Vault(DataKey.read(OTHER_KEY))):
        with closing(connect_read_only(named.place, vault)) as database:
            of_event = queries.tuples(database, Event.select(Event.reference))
            shown[vault] = of_event + queries.tuples(database, Awaited.select(Awaited.reference))
    assert shown[NAMES] == [("hush-reference",)] * 2
    assert [each for vault, each in shown.items() if vault is not NAMES] == [[(stands,)] * 2] * 2


def found(store: Store, vault: Vault | None, **chosen: Any) -> list[int]:
    with closing(connect_read_only(store.place, vault)) as database:
        [condition] = filters.EventFilter(**chosen).conditions(database)
        query = Event.select(Event.id).where(condition.expression)
        return [number for (number,) in queries.tuples(database, query)]


@pytest.mark.parametrize("chosen", [{"reference": "hush-reference"}, {"user_ref": "hush-user"}])
def test_events_are_found_by_whole_names(named: Store, chosen: dict[str, str]) -> None:
    arrive(named)
    arrive(named, body=b"2", reference="other", user_ref="other")
    assert found(named, NAMES, **chosen) == [1]
    [(name, text)] = chosen.items()
    assert found(named, NAMES, find=text) == [1]
    assert found(named, NAMES, find=text[:7]) == []
    with pytest.raises(SealedNamesError) as refused:
        found(named, None, **chosen)
    assert refused.value.exit_code == 1
    [(stands,)] = named.rows(f"SELECT {name} FROM event WHERE id = 1")
    assert found(named, None, **{name: stands}) == [1]
    assert found(named, None, find=stands) == [1]
    assert found(named, None, find="1") == [1]
    with pytest.raises(SealedNamesError):
        found(named, None, find=text)


def erase(store: Store, subject: Named) -> Any:
    with closing(connect_operator(store.place, NAMES)) as database:
        return erasing.erase(database, Request(named=subject, actor="ada"))


@pytest.mark.parametrize("by", ["user_ref", "reference", "pseudonym"])
def test_who_is_erased_is_erased_and_stays_so(named: Store, by: str) -> None:
    arrive(named, "crm")
    arrive(named, body=b"2", reference="hush-reference", user_ref=None, session_id=None)
    reference = pseudonym(named, "hush-reference") if by == "pseudonym" else "hush-reference"
    subject = Named.user("hush-user") if by == "user_ref" else Named.reference(reference)
    assert len(erase(named, subject).keys) == 2
    names = "SELECT reference, user_ref, sealed_reference, sealed_user_ref, lacks FROM event"
    assert named.rows(names) == [(None, None, None, None, "erased")] * 2
    again = named.wait(named.inbox.add(new_event(b"3", **PERSON), ()))
    assert again.is_erased
    assert named.rows(names) == [(None, None, None, None, "erased")] * 3
    assert named.rows("SELECT count(DISTINCT erased_name) FROM event") == [(1,)]


def test_a_hold_and_a_closing_are_found_by_the_name(named: Store) -> None:
    arrive(named)
    for subject in (Subject(user_ref="hush-user"), Subject(reference="hush-reference")):
        place = holds.place(subject, actor="ada", now_ms=NOW_MS)
        number = named.wait(named.writer.call(place))
        held = named.wait(named.writer.call(lambda one: holds.held(one, [1], NOW_MS)))
        assert held == {1}
        with pytest.raises(erasing.HeldError):
            erase(named, Named.user("hush-user"))
        end = holds.end(subject, actor="ada", now_ms=NOW_MS)
        assert named.wait(named.writer.call(end)) == [number]
    place = holds.place(Subject(reference="hush-session"), actor="ada", now_ms=NOW_MS)
    named.wait(named.writer.call(place))  # as the id of a session
    with pytest.raises(erasing.HeldError):
        erase(named, Named.user("hush-user"))
    close = closings.close("hush-user", 5, actor="ada", now_ms=NOW_MS)
    named.wait(named.writer.call(close))
    named.wait(named.writer.call(close))
    assert named.rows("SELECT count(*) FROM closing") == [(1,)]
    assert named.wait(named.writer.call(closings.undo("hush-user", actor="ada", now_ms=NOW_MS)))


def test_no_column_that_has_names_is_forgotten() -> None:
    """Who adds one has it turned on its way in, and converted by `rekey --names`."""
    of_events = {Event.reference.place, Event.user_ref.place}
    converted = of_events.union(*(each.places for each in sealnames.OF_TABLES))
    named = {
        column.place
        for table in TABLES
        for column in columns(table)
        if column.shown is Shape.REFERENCE
        or (table is VerificationName and column.holds is PERSONAL)
    }
    assert named == converted
    assert {place.partition(".")[2] for place in named} <= queries.NAMED


# --- The start of a daemon ------------------------------------------------------------------------


def start(place: DatabaseAddress, vault: Vault | None) -> None:
    backend(place, vault).prepare(require_naming)


def test_a_daemon_does_not_store_names_in_clear_beside_sealed_ones(named: Store) -> None:
    start(named.place, NAMES)
    for vault in (VAULT, None):
        with pytest.raises(CannotStartError, match="identity: sealed") as refused:
            start(named.place, vault)
        assert refused.value.exit_code == 78


def test_a_database_that_can_t_say_yet_how_names_are_kept_has_them_in_clear(sealed: Store) -> None:
    sealed.by_hand("ALTER TABLE digest_key DROP COLUMN names")
    with closing(backend(sealed.place, NAMES).connect_read_only()) as database:
        require_naming(database)


def test_the_first_that_joins_has_names_sealed_and_others_must_too(place: DatabaseAddress) -> None:
    with store_at(place, NAMES, seals_names=False) as store:
        store.wait(host(store, "first", NAMES).join((), NOW_MS))
        assert store.rows("SELECT names FROM digest_key") == [("sealed",)]
        assert store.rows("SELECT migration FROM schema_floor") == [(pseudonyms.FLOOR,)]
        store.wait(host(store, "second", NAMES).join((), NOW_MS))
    with store_at(place, VAULT) as other, pytest.raises(CannotStartError, match="identity: sealed"):
        other.wait(host(other, "other", VAULT).join((), NOW_MS))


def test_names_are_not_sealed_beneath_a_daemon(place: DatabaseAddress) -> None:
    with store_at(place, VAULT) as store:
        store.wait(host(store, "old", VAULT).join((), NOW_MS))
    with store_at(place, NAMES, seals_names=False) as store:
        with pytest.raises(TryAgainError, match="The daemon on old works without") as refused:
            store.wait(host(store, "new", NAMES).join((), NOW_MS))
        assert refused.value.exit_code == 75
        assert store.rows("SELECT names FROM digest_key") == [(None,)]


def test_names_are_not_converted_beneath_a_daemon(clear: DatabaseAddress) -> None:
    with store_at(clear, VAULT) as store:
        store.wait(host(store, "old", VAULT).join((), now_ms()))
    with pytest.raises(TryAgainError, match="on old") as refused:
        convert(clear)
    assert refused.value.exit_code == 75
    with store_at(clear, VAULT) as store:
        assert store.rows("SELECT names FROM digest_key") == [(None,)]
        store.wait(host(store, "old", VAULT).leave(now_ms()))
    assert convert(clear) == 3


def test_no_command_changes_what_has_names_in_clear_that_are_to_be_sealed(store: Store) -> None:
    store.add("crm")
    refused = pytest.raises(CannotStartError, match="rekey --names")
    with closing(connect_operator(store.place, NAMES)) as database, refused:
        naming.require_fit(database)
    with closing(connect_operator(store.place, VAULT)) as database:
        naming.require_fit(database)


def test_names_in_clear_are_sealed_first(store: Store) -> None:
    store.add("crm")
    with pytest.raises(CannotStartError, match="rekey --names"):
        start(store.place, NAMES)
    start(store.place, VAULT)


# --- Sealing what was in clear --------------------------------------------------------------------


def convert(place: DatabaseAddress) -> int:
    with closing(connect_operator(place, NAMES)) as database:
        rekeying.rekey(database, "ada", lambda _: None)
        return sealnames.seal_names(database, "ada", lambda _: None)


@pytest.fixture
def clear(place: DatabaseAddress) -> DatabaseAddress:
    """A database that has names in clear, wherever one may be."""
    with store_at(place, VAULT) as store:
        arrive(store, "crm", **PENDING, reference=SPELT)
        ask(store, Purpose.RECONCILE, InquiryResult.NOT_FOUND, "hush-other")
        arrive(store, "crm", body=b"2")
        arrive(store, "crm", body=b"3", reference="hush-waits")
        for subject in (Subject(user_ref="hush-user"), Subject(reference="hush-waits")):
            reason = f"about {subject.user_ref or subject.reference}"
            change = holds.place(subject, actor="ada", now_ms=NOW_MS, reason=reason)
            store.wait(store.writer.call(change))
        store.wait(store.writer.call(closings.close("hush-user", 1, actor="ada", now_ms=NOW_MS)))
        [first, second, _] = claim_once(store).jobs
        assert finish(store, first, SUCCEEDED)
        assert finish(store, second, SUCCEEDED)
        key = once_key("hush-gone", Outcome.VERIFIED)
        gone = "INSERT INTO gone_once (action, once_key, delivery_id) VALUES ('crm', ?, 99)"
        store.by_hand(gone, key)
        store.by_hand("INSERT INTO gone_event (key, event_id) VALUES ('x', 99)")
        name = "INSERT INTO verification_name (name, verification, at_ms) VALUES (?, ?, 1)"
        for each in ("hush-reference", "hush-name"):
            store.by_hand(name, each, "hush-reference")
    return place


def test_what_was_in_clear_is_nowhere_any_more(clear: DatabaseAddress) -> None:
    assert convert(clear) == 3
    assert convert(clear) == 0
    with store_at(clear, NAMES) as store:
        assert in_clear(store) == []
        assert UUID.encode() not in everything(store)
        assert SPELT.encode() not in everything(store)
        assert store.rows("SELECT names FROM digest_key") == [(Naming.CONVERTED,)]
        assert store.rows("SELECT migration FROM schema_floor") == [(pseudonyms.FLOOR,)]
        assert store.rows("SELECT state FROM awaited") == [("waiting",)]
        arrive(store, body=b"settles", reference=UUID)
        assert store.rows("SELECT state FROM awaited") == [("settled",)]


@pytest.mark.parametrize("reference", ["hush-reference", "hush-name", "hush-gone"])
def test_what_has_run_once_does_not_run_again(clear: DatabaseAddress, reference: str) -> None:
    convert(clear)
    with store_at(clear, NAMES) as store:
        event_id = arrive(store, "crm", body=b"again", reference=reference)
        assert claim_once(store).jobs == []
        states = "SELECT state FROM delivery WHERE event_id = ?"
        assert store.rows(states, event_id) == [("skipped",)]


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 8, 11])
def test_what_was_ended_in_the_middle_goes_on(clear: DatabaseAddress, steps: int) -> None:
    """As after kill -9: what a transaction had not committed is not there."""
    with closing(connect_operator(clear, NAMES)) as database:
        rekeying.rekey(database, "ada", lambda _: None)
        left = iter(range(steps))

        class Killed(Exception):
            pass

        whole = type(database).transact

        def transact(work: Any, *, alone: bool = False) -> Any:
            if next(left, None) is None:
                raise Killed
            return whole(database, work, alone=alone)

        database.transact = transact  # type: ignore[method-assign]
        is_killed = False
        try:
            sealnames.seal_names(database, "ada", lambda _: None)
        except Killed:
            is_killed = True
        del database.transact  # closing it has some too
        if is_killed:
            for vault in (NAMES, VAULT, None):
                with pytest.raises(TryAgainError, match="rekey --names"):
                    start(clear, vault)
            with closing(connect_operator(clear, NAMES)) as other, pytest.raises(ConvertingError):
                other.transact(pseudonyms.of)
    convert(clear)
    with store_at(clear, NAMES) as store:
        assert in_clear(store) == []
        arrive(store, "crm", body=b"again")
        assert claim_once(store).jobs == []


@pytest.mark.parametrize("is_named", [True, False], ids=["by its reference", "by its session"])
def test_who_was_erased_before_stays_so(clear: DatabaseAddress, is_named: bool) -> None:
    with closing(connect_operator(clear, VAULT)) as database:
        for number in (1, 2):
            database.transact(holds.end(number, actor="ada", now_ms=NOW_MS))
        erasing.erase(database, Request(named=Named.user("hush-user"), actor="ada"))
    convert(clear)
    named = {"session_id": None} if is_named else {}
    with store_at(clear, NAMES) as store:
        webhook = new_event(b"again", **PERSON, **named)
        added = store.wait(store.inbox.add(webhook, [NewDelivery("crm", 3, None, True)]))
        assert added.is_erased
        action = Claimable(slots=9, lease_ms=1, digest="", once=True, runs_erased=True)
        store.wait(store.queue.claim({"crm": action}, Load(limit=9), NOW_MS + 1))
        states = "SELECT state FROM delivery WHERE event_id = ?"
        assert store.rows(states, added.event_id) == [("skipped",)]
