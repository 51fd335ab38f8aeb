"""What is stored sealed when it comes, and is opened when it runs."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from premblyd.databases import Server
from premblyd.engines.engine import BulkInsert, Transaction
from premblyd.model.columns import Holds, Kept, columns
from premblyd.model.tables import TABLES, Event
from premblyd.prembly.payload import StoredEvent
from premblyd.queue import damage
from premblyd.queue.jobs import Confirmed
from premblyd.queue.sealed import SealedArrivals
from premblyd.vault import MARK
from premblyd.verifications.digests import Digests
from tests.support.queue import SUCCEEDED, claim, finish
from tests.support.rows import for_each
from tests.support.sealing import SEALED, VAULT, everything, is_sealed, opened
from tests.support.store import NOW_MS, VERDICT, Store, new_event, store_at

BODY = b'{"hush": "body"}'


def job_of(store: Store) -> StoredEvent:
    [job] = claim(store, crm=1).jobs
    return job.event


def test_all_bodies_and_all_secrets_of_events_are_sealed() -> None:
    for table in TABLES:
        for column in columns(table):
            if column.kept is Kept.BODY and column.holds is not Holds.PLAIN:
                assert column.sealed, column.place
    assert {column.name for column in columns(Event) if column.holds is Holds.SECRET} <= {
        column.name for column in SEALED[Event]
    }


def test_nothing_of_what_is_sealed_is_stored_in_clear(sealed: Store) -> None:
    sealed.add("crm", detail="hush-detail", headers='[["X","hush-header"]]')
    [job] = claim(sealed, crm=1).jobs
    assert finish(sealed, job, replace(SUCCEEDED, output="hush-output"))
    assert b"hush" not in everything(sealed)
    [row] = sealed.rows("SELECT body, headers, token, session_id, detail FROM event")
    assert all(map(is_sealed, row))
    [(reference, digest)] = sealed.rows("SELECT reference, session_digest FROM event")
    assert reference == "ref-1"
    assert digest == sealed.wait(sealed.writer.call(Digests.of)).of_session("hush-session")


def test_what_was_stored_is_what_came(sealed: Store) -> None:
    came = new_event(detail="hush-detail")
    sealed.add("crm", detail="hush-detail")
    for column in ("body", "headers", "token"):
        assert opened(sealed, "event", column, 1) == getattr(came, column)
    assert opened(sealed, "event", "session_id", 1) == "hush-session"
    assert opened(sealed, "event", "detail", 1) == "hush-detail"


def test_each_event_has_a_key_of_its_own(sealed: Store) -> None:
    sealed.add_at_once(5)
    rows = sealed.rows("SELECT id, wrapped FROM event_key ORDER BY id")
    assert [(number,) for number, _ in rows] == sealed.rows("SELECT id FROM event ORDER BY id")
    assert len({bytes(wrapped) for _, wrapped in rows}) == 5


def test_a_duplicate_makes_no_key_and_changes_none(sealed: Store) -> None:
    sealed.add("crm")
    before = sealed.rows("SELECT * FROM event_key")
    assert not sealed.add("crm").is_new
    assert sealed.rows("SELECT * FROM event_key") == before


def test_a_hook_gets_what_came(sealed: Store) -> None:
    sealed.add("crm")
    event = job_of(sealed)
    assert (event.body, event.token, event.verdict) == (BODY, "hush-token", VERDICT)
    assert event.headers == '[["User-Agent","Prembly"]]'


def test_what_a_hook_printed_is_opened_by_the_key_of_its_event(sealed: Store) -> None:
    sealed.add("crm")
    [job] = claim(sealed, crm=1).jobs
    assert finish(sealed, job, replace(SUCCEEDED, output="said"))
    assert opened(sealed, "attempt", "output", 1) == "said"


def test_what_prembly_confirmed_is_sealed_and_given_to_the_next_attempt(sealed: Store) -> None:
    sealed.add("crm")
    [job] = claim(sealed, crm=1).jobs
    confirmed = Confirmed(facts={"reference": "ref-1", "response_code": "01"}, sha256="ab")
    assert sealed.wait(sealed.queue.confirm(job, confirmed, NOW_MS)) is not None
    assert opened(sealed, "delivery", "confirmed_facts", 1) == confirmed.text
    assert finish(sealed, job, replace(SUCCEEDED), retry_at_ms=NOW_MS)
    [again] = claim(sealed, NOW_MS + 1, crm=1).jobs
    assert again.event.verdict.response_code == "01"
    assert set(again.confirmed_fields) == {"reference", "response_code"}


@for_each("body", [MARK + b"chosen", MARK, b"\x00"])
def test_a_body_that_looks_sealed_is_what_it_is(store: Store, body: bytes) -> None:
    store.add("crm", body=body)
    assert store.rows("SELECT count(*) FROM event_key") == [(0,)]
    assert job_of(store).body == body


def test_a_body_that_looks_sealed_is_sealed_too(sealed: Store) -> None:
    sealed.add("crm", body=MARK + b"chosen")
    assert job_of(sealed).body == MARK + b"chosen"


@pytest.mark.parametrize(
    ("by_hand", "words"),
    [
        ("DELETE FROM event_key", damage.KEY_GONE),
        ("UPDATE event_key SET data_key = 'cd'", damage.LACKS_KEY + "cd"),
        ("UPDATE event SET token = detail", damage.SEAL_BROKEN + "event.token"),
    ],
)
def test_a_hook_never_gets_what_is_sealed(sealed: Store, by_hand: str, words: str) -> None:
    sealed.add("crm")
    sealed.by_hand(by_hand)
    assert claim(sealed, crm=1).jobs == []
    [(state, error)] = sealed.rows("SELECT state, last_error FROM delivery")
    assert (state, error.startswith(words)) == ("dead", True)


def test_what_came_before_encryption_runs_as_it_is(store: Store) -> None:
    store.add("crm")
    assert job_of(store).body == BODY


@pytest.mark.postgresql
def test_what_another_host_has_stored_just_now_keeps_its_key(server: Server) -> None:
    """Of several rows with a key of an event, those that come too late are left out."""
    values: dict[str, Any] = {
        **dict.fromkeys(("endpoint", "remote_ip", "headers", "body_sha256", "verified_by"), "-"),
        "kind": "api",
        "outcome": "unknown",
        "received_at_ms": 1,
        "body_bytes": 1,
        "session_id": None,
        "key": "",
        "body": b"",
    }
    arrivals = SealedArrivals(BulkInsert(Event, *values, unique="key"))

    def insert(*keys: str) -> Callable[[Transaction], dict[str, int]]:
        rows = [tuple({**values, "key": key, "body": BODY}.values()) for key in keys]
        return lambda each: arrivals.insert(each, [rows], Digests.of(each))

    with store_at(server, VAULT) as store:
        first = store.wait(store.writer.call(insert("a")))
        assert store.wait(store.writer.call(insert("a", "b"))).keys() == {"b"}
        rows = store.rows("SELECT key FROM event JOIN event_key USING (id) ORDER BY id")
        assert [key for (key,) in rows] == ["a", "b"]
        assert opened(store, "event", "body", first["a"]) == BODY
