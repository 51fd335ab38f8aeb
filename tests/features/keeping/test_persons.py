"""A person is found by any of their names, and no stranger with them."""

from typing import Any

from premblyd.features.keeping import persons
from premblyd.features.keeping.persons import Named, Person
from premblyd.prembly.payload import session_reference
from premblyd.queue.inbox import NewDelivery
from tests.features.names.linked import name_one
from tests.support.store import NOW_MS, Store, new_event

UUID = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
NOBODY: dict[str, Any] = {"user_ref": None, "reference": None, "session_id": None}


def arrive(store: Store, body: bytes | None = None, **names: Any) -> int:
    """Store an event that has these names alone; return its number."""
    number = len(store.rows("SELECT id FROM event")) + 1
    event = new_event(body or b'{"number": %d}' % number, token="hush", **{**NOBODY, **names})
    return store.wait(store.inbox.add(event, [NewDelivery("crm", 3)])).event_id


def found(store: Store, named: Named) -> Person:
    return store.call(lambda transaction: persons.find(transaction, named))


def test_a_user_ref_has_the_events_of_its_references_and_no_strangers(store: Store) -> None:
    own = arrive(store, user_ref="ada", reference="ref-1")
    same = arrive(store, reference="ref-1")
    shared = arrive(store, user_ref="ada", reference="ref-2")
    stranger = arrive(store, user_ref="eve", reference="ref-2")
    arrive(store, user_ref="eve", reference="ref-3")
    person = found(store, Named.user("ada"))
    assert (person.event_ids, person.nameless_ids) == ((own, same, shared), (same,))
    assert (person.other_ids, {*person.shared}) == ((stranger,), {"ref-2"})
    assert person.references == {"ref-1", "ref-2"}


def test_what_names_nobody_does_not_lead_on_to_strangers(store: Store) -> None:
    own = arrive(store, user_ref="ada", reference="ref-1")
    between = arrive(store, reference="ref-1", session_id="demo")
    nameless = arrive(store, reference="ref-2", session_id="demo")
    stranger = arrive(store, user_ref="eve", reference="ref-3", session_id="demo")
    person = found(store, Named.user("ada"))
    assert person.event_ids == (own, between)
    assert person.other_ids == (nameless, stranger)


def test_a_uuid_is_found_in_all_spellings(store: Store) -> None:
    spellings = (UUID, UUID.upper(), UUID.replace("-", "_"), UUID.replace("-", ""))
    ids = [arrive(store, reference=spelt) for spelt in spellings]
    arrive(store, reference="else")
    for asked in spellings:
        assert list(found(store, Named.reference(asked)).event_ids) == ids


def test_sessions_and_all_names_of_a_verification_are_followed(store: Store) -> None:
    by_session = arrive(store, session_id="hush", reference=session_reference("hush"))
    by_both = arrive(store, reference="ref-1", session_id="hush")
    by_session_alone = arrive(store, session_id="hush")
    by_name = arrive(store, reference="ver_A_1")
    store.call(lambda one: name_one(one, ["ref-1", "ver_A_1"], NOW_MS))
    arrive(store, reference="ref-2", session_id="else")
    for name in ("ref-1", "ver_A_1", "hush", session_reference("hush")):
        person = found(store, Named.reference(name))
        assert person.event_ids == (by_session, by_both, by_session_alone, by_name), name
        assert person.sessions == {"hush"}


def test_a_reference_has_all_its_events_whoever_they_name(store: Store) -> None:
    ids = [arrive(store, user_ref=name, reference="ref-1") for name in ("ada", "eve")]
    other = arrive(store, user_ref="kim", session_id="s", reference="ref-2")
    ids.append(arrive(store, session_id="s", reference="ref-1"))
    person = found(store, Named.reference("ref-1"))
    assert person.event_ids == tuple(sorted(ids))
    assert person.user_refs == {"ada", "eve"}
    assert person.other_ids == (other,)
    assert person.shared == {"s", session_reference("s")}


def test_one_event_is_that_one_alone(store: Store) -> None:
    own = arrive(store, user_ref="ada", reference="ref-1")
    arrive(store, user_ref="ada", reference="ref-1")
    person = found(store, Named.event(own))
    assert person.event_ids == (own,)
    assert person.shared == {"ref-1"}
    assert not found(store, Named.event(99)).event_ids


def test_a_name_stands_in_no_text_that_python_makes_of_a_person(store: Store) -> None:
    arrive(store, user_ref="ada-lovelace", reference="ref-12", session_id="hush")
    person = found(store, Named.user("ada-lovelace"))
    assert not [name for name in ("ada-lovelace", "ref-12", "hush") if name in repr(person)]
