"""What an erasure takes away, and what stays: in every table, on every engine."""

import asyncio
import itertools
from collections.abc import Iterable
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest
from peewee import Model

from premblyd.features.asking.confirm import write_down
from premblyd.features.asking.hooks import Confirmed
from premblyd.features.asking.states import InquiryResult, Purpose
from premblyd.features.asking.tables import Awaited, Confirmation, Inquiry
from premblyd.features.keeping import erasing, holds, personrows
from premblyd.features.keeping.erased import NameDigests
from premblyd.features.keeping.erasing import Done, HeldError, Request
from premblyd.features.keeping.persons import Named
from premblyd.features.names.tables import VerificationName
from premblyd.ground.errors import StoreUnavailableError
from premblyd.prembly.payload import session_reference
from premblyd.queue.inbox import NewDelivery
from premblyd.queue.jobs import Claimable, Result, Room
from premblyd.store.columns import DIGEST, PLAIN, ColumnType, columns
from premblyd.store.connections import connect_operator
from premblyd.store.schema import TABLES
from premblyd.store.sqlite import opening
from premblyd.store.states import AttemptOutcome, State
from premblyd.store.tables import Attempt, Delivery, Event, OperatorAction
from tests.features.asking.questions import ask
from tests.features.names.linked import name_one
from tests.support.jobs import ending
from tests.support.queue import SUCCEEDED, claim, claim_once, finish
from tests.support.rows import for_each
from tests.support.store import NOW_MS, Store, new_event, transaction_open

ADA = Named.user("ada-lovelace")
OF_ADA: dict[str, Any] = {"user_ref": "ada-lovelace", "reference": "ref-ada"}
SOON_MS = 1 << 42  # after any clock
STATES = "SELECT action, state FROM delivery ORDER BY id"


def erase(store: Store, named: Named = ADA, **more: Any) -> Done:
    with closing(connect_operator(store.place)) as database:
        return erasing.erase(database, Request(named=named, actor="dpo", **more))


def arrive(store: Store, number: int, *deliveries: NewDelivery, **changes: Any) -> int:
    event = new_event(b'{"n": %d}' % number, **{**OF_ADA, **changes})
    return store.wait(store.inbox.add(event, deliveries)).event_id


def texts(store: Store) -> Iterable[tuple[str, str]]:
    """Yield each table's name with all that is in it."""
    for table in TABLES:
        name = table._meta.table_name
        rows = store.rows(f"SELECT * FROM {name}")
        values = itertools.chain.from_iterable(rows)
        texts = (bytes(each) if isinstance(each, bytes | memoryview) else each for each in values)
        yield name, "\n".join(map(str, texts))


# --- Every column of the catalogue ---------------------------------------------------------

ABOUT_PERSON: tuple[type[Model], ...] = (
    *(Event, Delivery, Attempt, Inquiry, Awaited, Confirmation, OperatorAction, VerificationName),
)
# Who did what stays as long as the row does.
STAY = {("operator_action", "actor")}


def canary(table: type[Model], name: str) -> str:
    return f"canary-{table._meta.table_name}-{name}.".replace("_", "-")


def private(table: type[Model]) -> list[str]:
    """Return the columns of a table that hold something of a person."""
    names = [each.column_name for each in columns(table) if each.holds is not PLAIN]
    return [name for name in names if (table._meta.table_name, name) not in STAY]


def fill(store: Store) -> int:
    """Store an event with a row in each table that is about it, and canaries in all columns."""
    event_id = arrive(store, 1, NewDelivery("crm", 3, "wait"))
    [job] = claim(store, crm=1).jobs
    finish(store, job, SUCCEEDED)
    about: dict[str, Any] = {"event_id": event_id, "delivery_id": job.delivery_id}
    ask(store, Purpose.CONFIRM, InquiryResult.CONFIRMED, "r", **about)
    waits = "INSERT INTO awaited (endpoint, reference, event_id, state, due_at_ms, created_at_ms)"
    store.by_hand(f"{waits} VALUES ('prembly', 'r', {event_id}, 'waiting', 1, 1)")
    confirmed = "INSERT INTO confirmation (delivery_id, at_ms, facts)"
    store.by_hand(f"{confirmed} VALUES ({job.delivery_id}, 1, '')")
    noted = "INSERT INTO operator_action (at_ms, actor, action, event_id)"
    store.by_hand(f"{noted} VALUES (1, 'ops', 'reveal', {event_id})")
    named = "INSERT INTO verification_name (name, verification, at_ms)"
    store.by_hand(f"{named} VALUES ('{canary(Event, 'reference')}', 'r', 1)")
    for table in ABOUT_PERSON:
        for column in columns(table):
            name = column.column_name
            if name not in private(table) or (table is VerificationName and name == "name"):
                continue
            text = f"'{canary(table, name)}'"
            if column.kind is ColumnType.BYTES:
                text = f"CAST({text} AS BLOB)" if is_sqlite(store) else f"{text}::bytea"
            store.by_hand(f"UPDATE {table._meta.table_name} SET {name} = {text}")
    return event_id


def is_sqlite(store: Store) -> bool:
    return not store.backend.is_shared


KEYED = {
    (table._meta.table_name, each.column_name)
    for table in ABOUT_PERSON
    for each in columns(table)
    if each.holds is DIGEST
}


def left(store: Store) -> set[tuple[str, str]]:
    """Return which canaries are somewhere: in which table, of which column."""
    sought = [(name, canary(each, name)) for each in ABOUT_PERSON for name in private(each)]
    found = texts(store)
    return {(table, name) for table, text in found for name, mark in sought if mark in text}


def test_nothing_of_a_person_is_left_in_any_column(store: Store) -> None:
    fill(store)
    before = dict(texts(store))
    for table in ABOUT_PERSON:
        for name in set(private(table)) - {"name"}:
            assert canary(table, name) in before[table._meta.table_name], name
    erase(store, Named.user(canary(Event, "user_ref")))
    assert left(store) == KEYED, "so that what comes again is known"


def test_tables_about_a_person_are_all_looked_at() -> None:
    """A new table with something of people is to be erased, or has a reason here."""
    others = {
        "rejection",  # no reference is kept of a refused request
        "console_token",  # people who work here
        "hold",  # refuses an erasure; what is over says nobody's name
        "pause",  # a reason that has a name: tests/features/pause/test_pauses.py
        "erasure",  # digests, and who erased
        "erased_name",
        "record",  # the key of the digests
        "gone_event",
        "once_run",
        "ordered",  # a delivery's digest, until it leaves its line
    }
    holding = {table for table in TABLES if {each.holds for each in columns(table)} > {PLAIN}}
    assert {table._meta.table_name for table in holding - {*ABOUT_PERSON}} == others
    assert holding >= {*ABOUT_PERSON}


def test_what_was_decided_stays_and_when(store: Store) -> None:
    event_id = fill(store)

    def kept() -> list[Any]:
        found = []
        for table in set(ABOUT_PERSON) - {VerificationName}:
            names = {each.column_name for each in columns(table) if each.holds is PLAIN} - CHANGED
            asked = f"SELECT {', '.join(sorted(names))} FROM {table._meta.table_name}"
            found.append(store.rows(f"{asked} WHERE id <= 1"))
        return found

    before = kept()
    assert all(before)
    done = erase(store, Named.event(event_id))
    assert kept() == before
    changed = (
        "SELECT removed_parts, erasure_id, key FROM event JOIN erased_event ON event_id = event.id"
    )
    assert store.rows(changed) == [("erased", done.id, canary(Event, "key"))]
    assert store.rows("SELECT state, due_at_ms FROM awaited") == [("erased", None)]


CHANGED = {"removed_parts", "state", "due_at_ms", "finished_at_ms", "closed_at_ms"}


# --- What waits, runs and is held ----------------------------------------------------------


@pytest.mark.parametrize("place_in_line", [0, 1, 2])
def test_those_behind_an_erased_one_in_a_line_go_on(store: Store, place_in_line: int) -> None:
    ids = [arrive(store, number, NewDelivery("crm", 3, "wait")) for number in (1, 2, 3)]
    erase(store, Named.event(ids[place_in_line]))
    ended = 0
    while jobs := claim(store, SOON_MS, crm=9).jobs:
        [job] = jobs
        finish(store, job, SUCCEEDED)
        ended += 1
    assert ended == 2
    assert sorted(row[1] for row in store.rows(STATES)) == ["cancelled", "succeeded", "succeeded"]


def test_a_dead_one_that_holds_a_line_lets_go(store: Store) -> None:
    first = arrive(store, 1, NewDelivery("crm", 1, "wait"))
    arrive(store, 2, NewDelivery("crm", 1, "wait"))
    [job] = claim(store, crm=1).jobs
    finish(store, job, Result(outcome=AttemptOutcome.FAILED, error="status 502"))
    assert not claim(store, crm=9).jobs
    assert erase(store, Named.event(first)).cancelled == 1
    assert [row[1] for row in store.rows(STATES)] == ["cancelled", "pending"]
    assert len(claim(store, SOON_MS, crm=9).jobs) == 1


@pytest.mark.parametrize("retry_at_ms", [None, NOW_MS + 9])
def test_a_hook_that_runs_leaves_its_code_alone_and_is_cancelled(
    store: Store, monkeypatch: pytest.MonkeyPatch, retry_at_ms: int | None
) -> None:
    """The erasure ends when none that was claimed before it can begin any more."""
    waited: list[float] = []
    monkeypatch.setattr(erasing, "time", SimpleNamespace(sleep=waited.append))
    monkeypatch.setattr(erasing, "NOTICED_S", 1.5)
    arrive(store, 1, NewDelivery("crm", 3, "wait"))
    other = arrive(store, 2, NewDelivery("crm", 3, "wait"), user_ref="eve")
    arrive(store, 3, NewDelivery("crm", 3, "wait"))
    [job] = claim(store, crm=1).jobs
    assert (erase(store).cancelled, waited) == (1, [1.5])
    is_last, failed = retry_at_ms is None, AttemptOutcome.FAILED
    said = Result(outcome=failed, exit_code=3, error="of ada", output="ada's", final=is_last)
    assert finish(store, job, said, retry_at_ms=retry_at_ms)
    done = "SELECT state, due_at_ms, finished_at_ms, last_error FROM delivery ORDER BY id LIMIT 1"
    assert store.rows(done) == [("cancelled", None, NOW_MS, None)]
    ended = "SELECT outcome, exit_code, error, output FROM attempt"
    assert store.rows(ended) == [("failed", 3, None, None)]
    [behind] = claim(store, SOON_MS, crm=9).jobs
    assert behind.event.id == other, "who waited behind it goes on"


def test_a_hook_that_is_told_of_nobody_or_of_somebody_else_says_what_it_likes(store: Store) -> None:
    arrive(store, 1, NewDelivery("crm", 3), user_ref="eve", reference="ref-eve")
    [of_eve] = claim(store, crm=1).jobs
    arrive(store, 2)
    erase(store)
    finish(store, of_eve, SUCCEEDED)
    arrive(store, 3, NewDelivery("told", 3, runs_erased=True))
    action = Claimable(slots=1, lease_ms=60_000, digest="", runs_erased=True)
    [job] = store.wait(store.queue.claim({"told": action}, Room(limit=1), SOON_MS)).jobs
    finish(store, job, Result(outcome=AttemptOutcome.FAILED, error="status 502", output="down"))
    said = store.rows("SELECT error, output FROM attempt ORDER BY id")
    assert said == [(None, "done"), ("status 502", "down")]


def test_what_prembly_confirms_meanwhile_is_not_kept(store: Store) -> None:
    arrive(store, 1, NewDelivery("crm", 3))
    [job] = claim_once(store).jobs
    erase(store)
    confirmed = Confirmed(facts={"reference": "ref-ada"}, sha256=b"0" * 32)
    names = ["ref-ada", "ver_ADA_1"]
    assert store.wait(write_down(store.queue, job, confirmed, NOW_MS, names, is_once=True)) is None
    assert not [table for table, text in texts(store) if "ref-ada" in text or "ver_ADA_1" in text]


def test_a_question_that_was_under_way_keeps_no_name(store: Store) -> None:
    event_id = arrive(store, 1)
    other_id = arrive(store, 2, user_ref="eve", reference="ref-eve")
    erase(store)
    for asked in (event_id, other_id):
        about: dict[str, Any] = {"event_id": asked, "answer_sha256": b"f" * 32}
        ask(store, Purpose.PENDING, InquiryResult.UNSETTLED, "asked for", **about)
    rows = store.rows("SELECT reference, answer_digest, result FROM inquiry ORDER BY id")
    digest = store.digests.of_body(b"f" * 32)
    assert rows == [(None, digest, "unsettled"), ("asked for", digest, "unsettled")]


@for_each(
    ("held", "named"),
    [
        (ADA, ADA),
        (Named.reference("ref-ada"), ADA),
        (Named.reference("session-a"), ADA),
        (Named.user("eve"), ADA),
        (ADA, Named.event(2)),
        (ADA, Named.reference("ref-ada")),
    ],
)
def test_a_hold_refuses_and_says_which(store: Store, held: Named, named: Named) -> None:
    """The event that names nobody may be hers who has its reference too."""
    arrive(store, 1, session_id="session-a")
    arrive(store, 2, session_id=None, user_ref=None)
    arrive(store, 3, session_id=None, user_ref="eve")
    number = store.call(holds.place(held, actor="court", now_ms=NOW_MS))
    with pytest.raises(HeldError, match=f"hold {number}"):
        erase(store, named)
    assert store.rows("SELECT id FROM erasure") == []
    store.call(holds.end(number, actor="court", now_ms=NOW_MS))


def test_what_a_hold_says_whose_time_is_over_goes_too(store: Store) -> None:
    arrive(store, 1)
    subject = Named.user("ada-lovelace")
    store.call(holds.place(subject, actor="court", now_ms=1, until_ms=2, reason="ada sues"))
    erase(store)
    assert store.rows("SELECT user_ref, reason, actor FROM hold") == [(None, None, "court")]


# --- Names -----------------------------------------------------------------------------------


def test_later_webhooks_of_the_names_are_stored_erased(store: Store) -> None:
    arrive(store, 1, session_id="hush-1")
    store.call(lambda one: name_one(one, ["ref-ada", "ver_ADA_1"], NOW_MS))
    done = erase(store)
    later = [("ref-ada", None), ("ver_ADA_1", None), (None, "hush-1")]
    for number, (reference, session_id) in enumerate(later, 2):
        event = new_event(b"%d" % number, reference=reference, session_id=session_id)
        assert store.wait(store.inbox.add(event, [])).is_erased, number
    rows = store.rows("SELECT reference, session_id FROM event")
    assert rows == [(None, None)] * 4
    marked = store.rows("SELECT event_id, erasure_id FROM erased_event ORDER BY event_id")
    assert marked == [(number, done.id) for number in (1, 2, 3, 4)]


def test_a_name_that_a_stranger_has_too_is_not_closed_to_them(store: Store) -> None:
    own = arrive(store, 1, session_id="demo")
    other = arrive(store, 2, user_ref="eve", reference="ref-eve", session_id="demo")
    done = erase(store)
    assert list(done.keys) == [own]
    assert done.other_ids == (other,)
    assert store.rows("SELECT user_ref FROM event ORDER BY id") == [(None,), ("eve",)]
    later = new_event(b"later", user_ref="eve", reference="ref-eve-2", session_id="demo")
    assert not store.wait(store.inbox.add(later, [])).is_erased


@pytest.mark.parametrize("alias", ["ver_1", session_reference("hush-eve")])
def test_no_name_that_a_stranger_has_too_is_closed_to_them(store: Store, alias: str) -> None:
    own = arrive(store, 1, session_id=None)
    other = arrive(store, 2, user_ref="eve", session_id=None)
    store.call(lambda one: name_one(one, ["ref-ada", alias], NOW_MS))
    done = erase(store)
    assert ([*done.keys], done.other_ids) == ([own], (other,))
    assert store.rows("SELECT reference FROM event ORDER BY id") == [(None,), ("ref-ada",)]
    assert len(store.rows("SELECT id FROM verification_name")) == 2, "by which hooks run once"
    for number, names in enumerate([(alias, None), ("ref-9", "hush-eve")]):
        later = new_event(b"%d" % number, user_ref="eve", reference=names[0], session_id=names[1])
        assert not store.wait(store.inbox.add(later, [])).is_erased


def test_one_event_leaves_others_of_its_reference_as_they_are(store: Store) -> None:
    first = arrive(store, 1)
    arrive(store, 2)
    store.call(lambda one: name_one(one, ["ref-ada", "ver_ADA_1"], NOW_MS))
    erase(store, Named.event(first))
    assert store.rows("SELECT reference FROM event ORDER BY id") == [(None,), ("ref-ada",)]
    assert len(store.rows("SELECT id FROM verification_name")) == 2
    assert not store.wait(store.inbox.add(new_event(b"3", **OF_ADA), [])).is_erased


def test_what_a_sender_wrote_into_a_plain_column_goes_if_it_may_name_somebody(store: Store) -> None:
    odd: dict[str, Any] = {"status": "Ada Obi", "response_code": "22212345678"}
    arrive(store, 1, type="ada.lovelace", risk_score=22212345678.0, **odd)
    arrive(store, 2, response_code="00")
    erase(store)
    said = store.rows("SELECT status, response_code, type, risk_score FROM event ORDER BY id")
    assert said == [(None, None, "", None), ("true", "00", "sdk.session", None)]


def test_questions_and_notes_about_no_event_go_too(store: Store) -> None:
    arrive(store, 1)
    for reference in ("ref-ada", "ref-eve"):
        ask(store, Purpose.RECONCILE, InquiryResult.NOT_FOUND, reference)
    noted = "INSERT INTO operator_action (at_ms, actor, action, note) VALUES (1, 'ops', 'x', ?)"
    for note in ("of ada-lovelace", "of ada-lovelaces", "ref-ada, ref-eve", "5 deliveries"):
        store.by_hand(noted.replace("?", f"'{note}'"))
    erase(store)
    assert store.rows("SELECT reference FROM inquiry ORDER BY id") == [(None,), ("ref-eve",)]
    notes = store.rows("SELECT note FROM operator_action WHERE actor = 'ops' ORDER BY id")
    assert notes == [(None,), ("of ada-lovelaces",), (None,), ("5 deliveries",)]


@for_each(
    ("name", "note", "has"),
    [
        ("ref-1 2", "of ref-1 2.", True),
        ("ref-1 2", "of ref-1 21.", False),
        ("-ada-lovelace-", "x-ada-lovelace-", False),
        ("-ada-lovelace-", "(-ada-lovelace-)", True),
        ("----", "a ---- b", True),
        ("----", "a --- b", False),
        ("17", "17 deliveries", False),  # a number of anything
    ],
)
def test_a_name_is_found_in_a_note_as_a_word(name: str, note: str, has: bool, store: Store) -> None:
    store.by_hand("DELETE FROM operator_action")
    noted = "INSERT INTO operator_action (id, at_ms, actor, action, note)"
    store.by_hand(f"{noted} VALUES (1, 1, 'ops', 'x', ?)".replace("?", f"'{note}'"))
    names = personrows.Names(frozenset([name]), frozenset(), frozenset())
    with closing(connect_operator(store.place)) as database:
        found = database.look(lambda transaction: personrows.eventless(transaction, names))
    assert found["operator_action"] == [1] * has


# --- How it is done ---------------------------------------------------------------------------


def test_who_erased_when_and_why_is_on_record(store: Store) -> None:
    arrive(store, 1)
    done = erase(store, reason="ticket 7")
    row = "SELECT actor, reason, found_by, subject, events, cancelled FROM erasure"
    subject = ADA.digest(NameDigests(store.engine.digest_key))
    assert store.rows(row) == [("dpo", "ticket 7", "user_ref", subject, 1, 0)]
    assert "lovelace" not in subject  # whose letters no digest has by chance
    actions = store.rows("SELECT actor, action, note FROM operator_action")
    assert actions == [("dpo", "erase", f"erasure {done.id}")]


def test_an_erasure_waits_for_all_who_write(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for those who have changed nothing yet, and may have looked whether it is erased."""
    arrive(store, 1)
    with transaction_open(store, lambda _: None), monkeypatch.context() as patch:
        patch.setattr(opening, "BUSY_TIMEOUT_S", 0.1)
        with pytest.raises(StoreUnavailableError):
            erase(store)
    assert len(erase(store).keys) == 1


def test_during_an_erasure_nobody_writes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written meanwhile is written before or after: never half."""
    arrive(store, 1, NewDelivery("crm", 3))
    [job] = claim(store, crm=1).jobs
    submitted: list[asyncio.Future[bool]] = []
    blank = personrows.erase_of_events

    async def under_way() -> None:
        submitted.append(store.queue.finish(job, SUCCEEDED, ending(job, State.SUCCEEDED, NOW_MS)))
        await asyncio.sleep(0)

    def in_the_middle(*arguments: Any) -> None:
        blank(*arguments)
        store.wait(under_way())  # the writer has it, and waits

    monkeypatch.setattr(personrows, "erase_of_events", in_the_middle)
    erase(store)
    assert store.wait(submitted[0])
    assert store.rows("SELECT state FROM delivery") == [("succeeded",)]
    assert store.rows("SELECT outcome, output FROM attempt") == [("succeeded", None)]
