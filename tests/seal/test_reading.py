"""What is sealed is read as it came by who has the data key, and as sealed by who has not."""

import base64
import csv
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial

import pytest

from premblyd import jsontext
from premblyd.config.retention import Retention
from premblyd.engines.connections import backend, connect_read_only
from premblyd.engines.engine import Database, Statement, Transaction
from premblyd.engines.opened import with_keys
from premblyd.errors import PremblydError
from premblyd.keep import holds, persons, searching
from premblyd.keep.holds import Subject
from premblyd.keep.persons import Named
from premblyd.keep.sweeping import Round, work_off
from premblyd.model.keeptables import Removed
from premblyd.model.tables import Delivery, Event
from premblyd.record import events, exporting, keeplists, lists, operating
from premblyd.record.dossiers import dossier
from premblyd.record.exporting import Format, Period
from premblyd.record.filters import EventFilter
from premblyd.record.operating import Operator
from premblyd.record.queries import SealedError
from premblyd.times import DAY_MS
from premblyd.vault import MARK, TEXT_MARK, DataKey, LacksKeyError, Vault
from premblyd.words import DAMAGED, KEY_GONE, SEALED
from tests.support.queue import SUCCEEDED, claim, finish
from tests.support.rows import for_each
from tests.support.sealing import OTHER_KEY, VAULT, is_sealed
from tests.support.store import NOW_MS, Store

DETAIL = "the record was not found"
HUSH = ("hush-token", "hush-header", "hush-session", "hush-output", '"body"', DETAIL)


@pytest.fixture
def filled(sealed: Store) -> Store:
    """A store with an event whose hook has run."""
    sealed.add("crm", detail=DETAIL, headers='[["X","hush-header"]]')
    [job] = claim(sealed, crm=1).jobs
    assert finish(sealed, job, replace(SUCCEEDED, output="hush-output"))
    return sealed


@pytest.fixture
def knowing(filled: Store) -> Iterator[Database]:
    with closing(connect_read_only(filled.place, VAULT)) as database:
        yield database


@pytest.fixture
def unknowing(filled: Store) -> Iterator[Database]:
    """Read by a group that may read the database, and no data key."""
    with closing(connect_read_only(filled.place)) as database:
        yield database


def revealed(store: Store, database: Database) -> str:
    recorded = store.wait(store.writer.call(Operator(actor="ada").reveal(1, NOW_MS)))
    return jsontext.text(events.revealed(database, recorded).as_json())


def test_who_has_the_key_sees_what_came(filled: Store, knowing: Database) -> None:
    text = revealed(filled, knowing)
    assert [each for each in HUSH if each not in text.replace("\\", "")] == []
    [row] = lists.rows(knowing, EventFilter())
    assert row.detail == DETAIL


def test_who_has_no_key_sees_that_it_is_sealed(unknowing: Database) -> None:
    event = events.find_event(unknowing, "1")
    names = ("token", "headers", "detail", "session_id", "body")
    assert {name: getattr(event, name) for name in names} == dict.fromkeys(names, SEALED)
    assert (event.reference, event.outcome) == ("ref-1", "verified")
    shown = events.masked(unknowing, event)
    assert shown.is_sealed
    found = json.loads(jsontext.dumps(shown.as_json()))
    assert (found["body"], found["detail"]) == (None, None)
    assert set(found["sealed"]) == {"token", "detail", "session_id", "body"}
    [attempt] = found["deliveries"][0]["attempts"]
    assert (attempt["output"], attempt["sealed"]) == (None, ["output"])


def test_who_has_no_key_gets_words_where_the_value_was_what_was_asked_for(
    filled: Store, unknowing: Database
) -> None:
    with pytest.raises(SealedError, match="data key"):
        revealed(filled, unknowing)
    period = Period(since_ms=0, until_ms=NOW_MS + 1)
    recorded = filled.wait(filled.writer.call(Operator(actor="ada").export("all", NOW_MS)))
    pieces = partial(exporting.pieces, unknowing, "events", period, Format.JSONL)
    with pytest.raises(SealedError):
        list(pieces(recorded))
    [line] = list(pieces())
    assert json.loads(line)["sealed"] == ["detail"]
    with pytest.raises(LacksKeyError):
        list(searching.find_text(unknowing, "hush"))
    with pytest.raises(LacksKeyError):
        dossier.of(unknowing, Named.user("user-1"), "user-1", NOW_MS)


def test_an_export_has_what_came(filled: Store, knowing: Database) -> None:
    period = Period(since_ms=0, until_ms=NOW_MS + 1)
    recorded = filled.wait(filled.writer.call(Operator(actor="ada").export("all", NOW_MS)))
    pieces = list(exporting.pieces(knowing, "events", period, Format.CSV, recorded))
    [row] = csv.DictReader(b"".join(pieces).decode("utf-8-sig").splitlines())
    assert (row["body"], row["detail"], row["token"]) == ('{"hush": "body"}', DETAIL, "hush-token")
    found = dossier.of(knowing, Named.user("user-1"), "user-1", NOW_MS)
    with closing(backend(filled.place, VAULT).connect_operator()) as database:
        record = operating.record_export(database, "ada", found.event_ids, "a person")
    [chapter] = dossier.chapters(knowing, found, record)
    assert chapter.event.session_id == "hush-session"
    assert dossier.body_of(knowing, 1) == b'{"hush": "body"}'


def test_texts_are_found_in_what_is_sealed(knowing: Database) -> None:
    assert list(searching.find_text(knowing, '"hush": "body"')) == [1]
    assert list(searching.find_text(knowing, "hush-output")) == [1]
    assert list(searching.find_text(knowing, "nobody has this")) == []


def test_details_that_are_sealed_are_not_searched(knowing: Database) -> None:
    with pytest.raises(PremblydError, match="sealed"):
        lists.rows(knowing, EventFilter(text="record"))


@for_each("session", ["hush-session", "HUSH-SESSION"])
def test_a_session_that_is_sealed_leads_to_its_events(sealed: Store, session: str) -> None:
    sealed.add(reference=None, user_ref=None, session_id=session)
    sealed.add(body=b"2", reference="ref-2", session_id=session)

    def find(transaction: Transaction) -> persons.Person:
        return persons.find(transaction, Named.user("user-1"))

    person = sealed.wait(sealed.writer.call(find))
    assert person.event_ids == (1, 2)
    assert sealed.wait(sealed.writer.call(partial(persons.find, named=Named.reference(session))))


def test_a_hold_of_a_session_holds_its_events(sealed: Store) -> None:
    sealed.add(reference=None, user_ref=None)
    sealed.wait(
        sealed.writer.call(
            holds.place(Subject(reference="hush-session"), actor="ada", now_ms=NOW_MS)
        )
    )
    assert sealed.wait(sealed.writer.call(lambda one: holds.held(one, [1], NOW_MS))) == {1}
    with closing(connect_read_only(sealed.place)) as database:
        counted = Statement(Event.select(Event.id).where(holds.is_held(NOW_MS)))
        assert database.look(lambda one: one.rows(counted)) == [(1,)]
        assert keeplists.count_of(database, Subject(reference="hush-session")) == 1


def test_what_was_put_in_the_place_of_another_is_not_shown(filled: Store) -> None:
    filled.by_hand("UPDATE event SET token = session_id")
    with closing(connect_read_only(filled.place, VAULT)) as database:
        event = events.find_event(database, "1")
    assert (event.token, event.session_id) == (DAMAGED, "hush-session")


@for_each("vault", [VAULT, None])
def test_of_an_event_whose_key_is_gone_people_read_words(
    filled: Store, vault: Vault | None
) -> None:
    """And programs null: nothing of what is stored, which says nothing to anybody."""
    filled.by_hand("DELETE FROM event_key")
    with closing(connect_read_only(filled.place, vault)) as database:
        event = events.find_event(database, "1")
        names = ("token", "headers", "detail", "session_id", "body")
        assert [getattr(event, name) for name in names] == [KEY_GONE] * len(names)
        shown = json.loads(jsontext.dumps(events.masked(database, event).as_json()))
        [row] = lists.rows(database, EventFilter())
        text = revealed(filled, database)
    assert "premblyd-sealed" not in text + json.dumps(shown)
    assert str(row.detail) == "sealed, and its key is gone"
    [attempt] = shown["deliveries"][0]["attempts"]
    assert (shown["body"], attempt["output"], attempt["sealed"]) == (None, None, ["output"])


def test_what_a_later_class_keeps_of_an_event_without_key_is_words_too(filled: Store) -> None:
    filled.by_hand("DELETE FROM event_key")
    filled.by_hand("UPDATE event SET body = '', headers = '[]', lacks = 'body'")
    with closing(connect_read_only(filled.place, VAULT)) as database:
        assert events.find_event(database, "1").session_id is KEY_GONE


def test_another_data_key_opens_nothing(filled: Store) -> None:
    other = Vault(DataKey.read(OTHER_KEY))
    with closing(connect_read_only(filled.place, other)) as database:
        assert events.find_event(database, "1").body is SEALED


def test_what_only_looks_sealed_is_shown_as_it_came(store: Store) -> None:
    store.add(body=MARK + b"chosen", detail=TEXT_MARK + "chosen")
    with closing(connect_read_only(store.place)) as database:
        event = events.find_event(database, "1")
    assert (event.body, event.detail) == (MARK + b"chosen", TEXT_MARK + "chosen")


def test_grouped_rows_can_not_be_opened() -> None:
    with pytest.raises(TypeError):
        with_keys(Event.select(Event.detail).distinct())
    with pytest.raises(TypeError):
        with_keys(Delivery.select(Delivery.confirmed_facts).group_by(Delivery.action))


def test_media_that_are_over_go_and_leave_a_body_that_is_sealed(sealed: Store) -> None:
    photo = base64.b64encode(bytes(range(256)) * 20).decode()
    sealed.add(body=f'{{"image": "{photo}", "name": "hush-name"}}'.encode())
    with closing(backend(sealed.place, VAULT).connect_operator()) as database:
        round_ = Round(Retention.model_validate({"media": "7d"}), with_strays=False)
        list(work_off(database, round_, NOW_MS + 30 * DAY_MS))
        event = events.find_event(database, "1")
    assert (event.lacks, round_.removed[Removed.MEDIA]) == ("media", 1)
    assert b"hush-name" in event.body
    assert photo.encode() not in event.body
    [(stored,)] = sealed.rows("SELECT body FROM event")
    assert is_sealed(bytes(stored))
