"""What is erased, or removed when its time is over, loses the key of its event first."""

from contextlib import closing
from dataclasses import replace

import pytest

from premblyd.engines.connections import connect_operator
from premblyd.engines.postgresql.opening import CLEANED
from premblyd.keep import erasing, rekeying, removing
from premblyd.keep.erasing import Request
from premblyd.keep.persons import Named
from premblyd.model.columns import Holds, Kept, columns
from premblyd.model.keeptables import Removed
from premblyd.model.tables import TABLES
from premblyd.queue.jobs import Confirmed
from tests.support.queue import SUCCEEDED, claim, finish
from tests.support.sealing import VAULT, everything, opened
from tests.support.store import NOW_MS, Store

KEYS = "SELECT event.key FROM event_key JOIN event USING (id) ORDER BY event_key.id"


def stored(store: Store) -> None:
    """Have two persons' events, whose hooks have run."""
    for number in (1, 2):
        store.add("crm", body=b"%d" % number, reference=f"ref-{number}", user_ref=f"user-{number}")
    for job in claim(store, crm=2).jobs:
        assert finish(store, job, SUCCEEDED)


def erase(store: Store, named: Named) -> erasing.Done:
    with closing(connect_operator(store.place, VAULT)) as database:
        return erasing.erase(database, Request(named=named, actor="ada"))


def key_of(store: Store, number: int) -> tuple[str]:
    [row] = store.rows("SELECT key FROM event WHERE id = ?", number)
    return (str(row[0]),)


def test_an_erasure_destroys_the_keys_of_its_events_and_no_others(sealed: Store) -> None:
    stored(sealed)
    wrapped = [bytes(row[0]) for row in sealed.rows("SELECT wrapped FROM event_key ORDER BY id")]
    done = erase(sealed, Named.user("user-1"))
    assert list(done.keys) == [1]
    assert sealed.rows(KEYS) == [key_of(sealed, 2)]
    assert wrapped[0] not in everything(sealed)
    assert wrapped[1] in everything(sealed)
    assert opened(sealed, "event", "body", 2, event_id=2) == b"2"
    assert sealed.rows("SELECT session_digest FROM event WHERE id = 1") == [(None,)]


def test_the_keys_of_all_go_with_the_first_portion(
    sealed: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(sealed)
    sealed.add(body=b"3", reference="ref-3", user_ref="user-1")
    monkeypatch.setattr(erasing, "MOST_AT_ONCE", 1)
    left = []

    def look(done: erasing.Done) -> None:
        left.append((done.left, len(sealed.rows(KEYS))))

    with closing(connect_operator(sealed.place, VAULT)) as database:
        request = Request(named=Named.user("user-1"), actor="ada")
        erasing.erase(database, request, look)
    assert left == [(1, 1), (0, 1)]


def test_a_later_webhook_of_who_was_erased_has_no_key(sealed: Store) -> None:
    stored(sealed)
    erase(sealed, Named.reference("ref-1"))
    assert sealed.add("crm", body=b"later", reference="ref-1").is_erased
    assert sealed.rows(KEYS) == [key_of(sealed, 2)]
    assert b"hush" not in everything(sealed)


def test_a_hook_that_ran_meanwhile_leaves_nothing(sealed: Store) -> None:
    sealed.add("crm")
    [job] = claim(sealed, crm=1).jobs
    erase(sealed, Named.reference("ref-1"))
    assert finish(sealed, job, SUCCEEDED)
    assert sealed.rows("SELECT state, output FROM delivery, attempt") == [("succeeded", None)]


def test_what_is_said_of_who_is_erased_in_portions_is_not_stored_in_clear(
    sealed: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is it taken for what somebody has changed."""
    for number in (1, 2):
        sealed.add("crm", body=b"%d" % number, reference=f"ref-{number}")
    _, job = claim(sealed, crm=2).jobs
    monkeypatch.setattr(erasing, "MOST_AT_ONCE", 1)
    outputs = "SELECT output, confirmed_facts FROM attempt JOIN delivery d ON d.id = delivery_id"

    def look(done: erasing.Done) -> None:
        if done.left:
            confirmed = Confirmed(facts={"reference": "hush"})
            assert sealed.wait(sealed.queue.confirm(job, confirmed, NOW_MS)) is None
            assert finish(sealed, job, replace(SUCCEEDED, output="hush"))
            assert sealed.rows(f"{outputs} WHERE d.id = ?", job.delivery_id) == [(None, None)]
            with closing(connect_operator(sealed.place, VAULT)) as another:
                rekeyed = rekeying.rekey(another, "ada", lambda _: None)
            assert (rekeyed.sealed, rekeyed.damaged) == (0, [])

    with closing(connect_operator(sealed.place, VAULT)) as database:
        request = Request(named=Named.user("user-1"), actor="ada")
        erasing.erase(database, request, look)
    assert b"hush" not in everything(sealed)


def test_a_server_cleans_all_that_is_erased_and_the_keys_first() -> None:
    erased = {
        table._meta.table_name
        for table in TABLES
        for column in columns(table)
        if column.holds is not Holds.PLAIN and column.kept in (Kept.BODY, Kept.IDENTITY)
    }
    assert (CLEANED[0], erased - set(CLEANED)) == ("event_key", set())


@pytest.mark.parametrize("removed", [Removed.IDENTITY, Removed.RECORD])
def test_what_goes_in_time_takes_its_key_along(sealed: Store, removed: Removed) -> None:
    stored(sealed)
    sealed.wait(
        sealed.writer.call(lambda transaction: removing.remove(transaction, removed, [1], {}))
    )
    assert sealed.rows(KEYS) == [key_of(sealed, 2)]


def test_a_body_goes_in_time_and_the_key_of_what_is_left_stays(sealed: Store) -> None:
    stored(sealed)
    sealed.wait(
        sealed.writer.call(lambda transaction: removing.remove(transaction, Removed.BODY, [1], {}))
    )
    assert len(sealed.rows(KEYS)) == 2
    assert sealed.rows("SELECT body, headers FROM event WHERE id = 1") == [(b"", "[]")]
    assert opened(sealed, "event", "token", 1) == "hush-token"
