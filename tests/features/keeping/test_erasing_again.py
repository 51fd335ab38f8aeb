"""Going on with an erasure in portions whose command was ended, and what comes meanwhile."""

import itertools
from contextlib import closing, suppress
from typing import Any

import pytest

from premblyd.features.keeping import erasing, holds
from premblyd.features.keeping.erasing import Done, Findings, Request, look
from premblyd.features.keeping.holds import BeingErasedError
from premblyd.features.keeping.persons import Named
from premblyd.ground.errors import TryAgainError
from premblyd.queue.inbox import NewDelivery
from premblyd.queue.jobs import Result
from premblyd.store.connections import connect_operator
from premblyd.store.states import AttemptOutcome
from tests.features.keeping.test_erasing import ADA, arrive, erase
from tests.support.queue import claim, finish
from tests.support.store import NOW_MS, Store

WHOLE = "SELECT id FROM event WHERE removed_parts IS NULL OR user_ref IS NOT NULL ORDER BY id"


class _EndedError(Exception):
    """Ends a command behind its first transaction."""


def begin(store: Store, monkeypatch: pytest.MonkeyPatch, named: Named = ADA) -> None:
    """Erase the first event of somebody, and leave the others to whoever goes on."""
    monkeypatch.setattr(erasing, "MOST_AT_ONCE", 1)

    def end(_: Done) -> None:
        raise _EndedError

    with closing(connect_operator(store.place)) as database, pytest.raises(_EndedError):
        erasing.erase(database, Request(named=named, actor="dpo"), end)


def test_what_came_by_another_name_goes_too(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [arrive(store, number) for number in range(3)]
    begin(store, monkeypatch)
    names = {"reference": "ref-new", "session_id": "session-new"}
    ids.append(arrive(store, 3, NewDelivery("crm", 3), **names))
    done = erase(store)
    assert (sorted(done.keys), done.cancelled) == (ids, 1)
    assert store.rows(WHOLE) == []
    assert store.rows("SELECT events, cancelled FROM erasure") == [(4, 1)]
    late = arrive(store, 4, **names)
    assert store.rows("SELECT removed_parts FROM event WHERE id = ?", late) == [("erased",)]


def test_another_takes_over_what_is_left(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        arrive(store, number)
    begin(store, monkeypatch, Named.reference("ref-ada"))
    erase(store)
    assert store.rows(WHOLE) == []
    assert store.rows("SELECT id FROM to_erase") == []


@pytest.mark.parametrize("named", [ADA, Named.reference("ref-ada")])
@pytest.mark.parametrize("held", [ADA, Named.reference("ref-ada")])
def test_a_hold_on_whom_an_erasure_is_not_done_with_is_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch, named: Named, held: Named
) -> None:
    """It would hold nothing of what is gone already, and the rest goes."""
    for number in range(3):
        arrive(store, number)
    begin(store, monkeypatch, named)
    with pytest.raises(BeingErasedError, match="No hold was placed: erasure 1 has begun"):
        store.call(holds.place(held, actor="court", now_ms=NOW_MS))
    store.call(holds.place(Named.user("eve"), actor="court", now_ms=NOW_MS))
    assert store.rows("SELECT user_ref FROM hold") == [("eve",)]
    erase(store, named)
    assert store.rows(WHOLE) == []
    store.call(holds.place(held, actor="court", now_ms=NOW_MS))


def test_a_hook_of_what_is_left_says_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    arrive(store, 1)
    arrive(store, 2, NewDelivery("crm", 3))
    [job] = claim(store, crm=1).jobs
    arrive(store, 3, NewDelivery("other", 3))
    begin(store, monkeypatch)
    assert store.rows("SELECT state FROM delivery WHERE action = 'other'") == [("cancelled",)]
    failed = Result(outcome=AttemptOutcome.FAILED, error="of ada", output="of ada")
    finish(store, job, failed, retry_at_ms=NOW_MS + 9)
    states = "SELECT DISTINCT state, due_at_ms, last_error FROM delivery"
    assert store.rows(states) == [("cancelled", None, None)]
    assert store.rows("SELECT error, output FROM attempt") == [(None, None)]


def test_wherever_a_command_was_ended_it_goes_on_and_nothing_is_half_erased(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasing, "MOST_AT_ONCE", 2)
    for ended_after in itertools.count(1):
        for number in range(3):
            about = f"{ended_after}-{number}"
            names = {"reference": f"ref-{about}", "session_id": f"session-{about}"}
            arrive(store, ended_after * 10 + number, NewDelivery("crm", 3), token=about, **names)
        with closing(connect_operator(store.place)) as database:
            whole, left = database.transact, iter(range(ended_after))

            def transact(work: Any, **how: Any) -> Any:
                if next(left, None) is None:  # noqa: B023
                    raise _EndedError
                return whole(work, **how)  # noqa: B023

            with monkeypatch.context() as patch:  # closing it has some too
                patch.setattr(database, "transact", transact)
                with suppress(_EndedError):
                    erasing.erase(database, Request(named=ADA, actor="dpo"))
                    break
        assert store.rows("SELECT count(*) FROM to_erase") != [(0,)], "it is not over"
        done = erase(store)
        assert len(done.keys) == 3
        assert store.rows(WHOLE) == []
        assert store.rows("SELECT count(*) FROM to_erase") == [(0,)]
    assert ended_after > 6, "of so many transactions"
    assert store.rows("SELECT DISTINCT events, cancelled FROM erasure") == [(3, 3)]
    assert store.rows("SELECT count(*) FROM erased_name") == [(ended_after * 9,)]


def test_webhooks_are_stored_while_a_person_of_many_is_looked_for_and_their_names_go_too(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is written down a reference comes again, with another session; and then that
    session."""
    monkeypatch.setattr(erasing, "MOST_AT_ONCE", 2)
    for number in range(3):
        arrive(store, number)
    arriving = [("ref-ada", "session-2"), ("ref-2", "session-2")]

    def look_beside(transaction: Any, **about: Any) -> Findings:
        found = look(transaction, **about)
        if arriving:
            reference, session_id = arriving.pop(0)
            token = f"late-{len(arriving)}"
            names = {"reference": reference, "session_id": session_id, "user_ref": None}
            arrive(store, 9 + len(arriving), NewDelivery("crm", 3), token=token, **names)
        return found

    monkeypatch.setattr(erasing, "look", look_beside)
    done = erase(store)
    assert store.rows("SELECT id FROM event WHERE reference IS NOT NULL") == []
    assert len(done.keys) >= 4
    assert store.rows("SELECT count(*) FROM event WHERE removed_parts = 'erased'") == [(5,)]


def test_a_hold_that_came_while_a_person_of_many_was_looked_for_leaves_all_as_it_was(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one on another name than those that were looked up."""
    monkeypatch.setattr(erasing, "MOST_AT_ONCE", 2)
    for number in range(3):
        arrive(store, number)
    whole = store.rows(WHOLE)

    def look_beside(transaction: Any, **about: Any) -> Findings:
        found = look(transaction, **about)
        store.call(holds.place(Named.reference("ref-new"), actor="court", now_ms=NOW_MS))
        return found

    monkeypatch.setattr(erasing, "look", look_beside)
    with pytest.raises(TryAgainError, match="a hold was placed meanwhile") as raised:
        erase(store)
    assert raised.value.exit_code == 75
    assert store.rows(WHOLE) == whole
    assert store.rows("SELECT id FROM erasure") == []
