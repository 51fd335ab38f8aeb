"""What `retention` removes, when, and what it leaves."""

import functools
from pathlib import Path
from typing import Any

import pytest

from premblyd.features.keeping import holds, removing, retention
from premblyd.features.keeping.persons import Named
from premblyd.features.keeping.retention import Done, Round
from premblyd.features.keeping.settings import Retention
from premblyd.features.keeping.tables import Removed
from premblyd.ground.times import DAY_MS, HOUR_MS
from premblyd.store.columns import PLAIN, ColumnType, Kept, Table, columns
from premblyd.store.engine import Statement
from premblyd.store.sqlite.transaction import SqliteTransaction
from premblyd.store.tables import Delivery, Event
from tests.features.names.linked import name_one
from tests.support.database import changing
from tests.support.store import NOW_MS, Store, new_rejection, store_at, transaction_open

LATER_MS = NOW_MS + 10 * DAY_MS


def settings(**periods: str) -> Retention:
    return Retention.model_validate({name.rstrip("_"): text for name, text in periods.items()})


def sweep(store: Store, now_ms: int = LATER_MS, /, **periods: str) -> dict[str, int]:
    """Do a round, and return how many of each class went."""
    round_ = Round(settings(**periods))
    work_off(store, round_, now_ms)
    return {str(removed): count for removed, count in round_.removed.items() if count}


def work_off(store: Store, round_: Round, now_ms: int = LATER_MS) -> list[Done]:
    """Do all of a round, and return what each transaction did."""
    store.call(functools.partial(removing.end_what_expired, now_ms=now_ms))
    done = []
    while round_.has_work:
        done.append(store.call(round_.work(now_ms)))
        round_.take(done[-1])
    return done


def finish(store: Store, event_id: int, state: str = "succeeded") -> None:
    sql = "UPDATE delivery SET state = ?, due_at_ms = NULL, finished_at_ms = ? WHERE event_id = ?"
    store.by_hand(sql, state, NOW_MS, event_id)


def events(store: Store) -> list[int]:
    return [row[0] for row in store.rows("SELECT id FROM event ORDER BY id")]


def removed_parts(store: Store) -> list[str | None]:
    return [row[0] for row in store.rows("SELECT removed_parts FROM event ORDER BY id")]


def test_nothing_goes_before_its_time_is_over_or_without_a_period(store: Store) -> None:
    store.add()
    assert sweep(store) == {}
    assert sweep(store, NOW_MS + HOUR_MS - 1, body="1h", identity="1h", record="1h") == {}
    assert removed_parts(store) == [None]
    assert sweep(store, NOW_MS + HOUR_MS, body="1h") == {"body": 1}


def test_a_body_goes_with_its_headers_and_what_hooks_printed(store: Store) -> None:
    event_id = store.add("crm").event_id
    finish(store, event_id)
    store.by_hand(FILL[0])
    store.by_hand("UPDATE attempt SET error = 'e', output = 'o'")
    assert sweep(store, body="90h") == {"body": 1}
    said = store.rows("SELECT removed_parts, headers, body_bytes, reference FROM event")
    assert said == [("body", "[]", 16, "ref-1")]
    assert store.bodies() == [None]
    assert store.rows("SELECT error, output FROM attempt") == [("e", None)]
    assert sweep(store, body="90h") == {}


def test_identity_takes_the_body_too_and_leaves_what_was_decided(store: Store) -> None:
    """What a sender put where a code is expected may be anything, and goes too."""
    odd: dict[str, Any] = {"response_code": "BVN 22200000042", "risk_level": "Yaba, Lagos"}
    store.add(body=b"2", type="ng.amina", status="AMINA", verification_status="Tunde", **odd)
    store.add(risk_level="high")
    assert sweep(store, body="1h", identity="1h") == {"identity": 2}
    shown = "removed_parts, body, reference, user_ref, token, session_id, remote_ip, detail"
    gone = ("identity", None, None, None, None, None, "", None)
    assert store.rows(f"SELECT {shown} FROM event") == [gone] * 2
    words = "response_code, status, verification_status, risk_level, type, outcome"
    assert store.rows(f"SELECT {words} FROM event ORDER BY id") == [
        (None, None, None, None, "", "verified"),
        ("00", "true", "VERIFIED", "high", "sdk.session", "verified"),
    ]
    assert store.rows("SELECT DISTINCT received_at_ms FROM event") == [(NOW_MS,)]


@pytest.mark.parametrize("are_kept", [False, True])
def test_of_a_record_the_key_stays_and_what_its_hook_has_done(store: Store, are_kept: bool) -> None:
    first = store.add("crm")
    finish(store, first.event_id)
    keys = "(delivery_id, action, once_key, confirmed_key)"
    store.by_hand(f"INSERT INTO once_run {keys} VALUES (1, 'crm', 'k', 'c')")
    second = store.add("crm", body=b"2", received_at_ms=LATER_MS)
    finish(store, second.event_id, "skipped")
    store.by_hand("UPDATE delivery SET ran_instead_id = 1 WHERE id = 2")
    store.by_hand(FILL[6])
    store.by_hand(FILL[1].replace("event_id,", "stored_event_id,"))
    store.by_hand("UPDATE inquiry SET event_id = 2")
    if are_kept:  # of an earlier one
        store.by_hand("INSERT INTO gone_event (key, event_id) VALUES (?, 9)", first.key)
        store.by_hand("INSERT INTO once_run (action, once_key) VALUES ('crm', 'c')")
    hours = store.rows("SELECT sum(events) FROM event_hour")
    assert sweep(store, record="1d") == {"record": 1}
    assert events(store) == [second.event_id]
    assert store.rows("SELECT key, event_id FROM gone_event") == [(first.key, first.event_id)]
    gone = "SELECT action, once_key, delivery_id FROM once_run ORDER BY once_key"
    assert store.rows(gone) == [("crm", "c", None), ("crm", "k", None)]
    assert store.rows("SELECT id, ran_instead_id FROM delivery") == [(2, None)]
    assert store.rows("SELECT stored_event_id FROM inquiry") == [(None,)]
    assert store.rows("SELECT id FROM operator_action") == []
    assert store.rows("SELECT sum(events) FROM event_hour") == hours


WAITING = (
    "UPDATE delivery SET state = 'pending'",
    "INSERT INTO ordered (delivery_id, action, order_key, place, blocks)"
    " SELECT id, action, 'k', 1, TRUE FROM delivery",
    "INSERT INTO awaited (endpoint, reference, event_id, state, due_at_ms, created_at_ms)"
    " VALUES ('', 'r', 1, 'waiting', 1, 1)",
)
OVER = "UPDATE delivery SET state = 'cancelled', due_at_ms = NULL, finished_at_ms = 1"
NOT_AWAITED = "UPDATE awaited SET state = 'given_up', due_at_ms = NULL, finished_at_ms = 1"


@pytest.mark.parametrize("waits", WAITING)
def test_what_waits_stays_and_goes_when_it_is_over(store: Store, waits: str) -> None:
    store.add("crm")
    if "awaited" in waits:
        finish(store, 1)
    store.add(body=b"other")
    store.by_hand(waits)
    for each in ("body", "identity", "record"):
        assert sweep(store, **{each: "1d"}) == {each: 1}
        assert sweep(store, **{each: "1d"}) == {}
    assert (events(store), removed_parts(store)) == ([1], [None])
    store.by_hand(OVER)
    store.by_hand(NOT_AWAITED)
    assert sweep(store, body="1d") == {"body": 1}
    assert sweep(store, record="1d") == {"record": 1}


def test_what_is_held_stays_until_the_hold_ends(store: Store) -> None:
    store.add()
    number = store.call(holds.place(Named.user("user-1"), actor="ada", now_ms=NOW_MS))
    assert sweep(store, identity="1d", record="1d") == {}
    store.call(holds.end(number, actor="ada", now_ms=NOW_MS))
    assert sweep(store, identity="1d", record="8d") == {"record": 1}


def test_a_name_that_a_younger_event_has_too_is_not_forgotten(store: Store) -> None:
    store.add(reference="ref-a")
    store.add(reference="ref-a", received_at_ms=LATER_MS, body=b"2")
    other: dict[str, Any] = {"reference": "ref-b", "user_ref": None, "session_id": None}
    younger = store.add(received_at_ms=LATER_MS, body=b"3", **other)
    store.call(functools.partial(name_one, names=["ref-a", "ref-b"], now_ms=NOW_MS))
    assert sweep(store, identity="7d") == {"identity": 1}
    store.call(holds.place(Named.reference("ref-a"), actor="court", now_ms=NOW_MS))
    held = functools.partial(holds.held, event_ids=[younger.event_id], now_ms=NOW_MS)
    assert store.call(held) == {younger.event_id}


def test_a_round_goes_on_where_the_last_one_was_unless_it_is_whole(store: Store) -> None:
    store.add()
    for at_ms in (NOW_MS, LATER_MS):
        store.wait(store.inbox.reject(new_rejection(at_ms=at_ms)))
    assert sweep(store, body="1d", rejections="90h") == {"body": 1, "rejections": 1}
    assert store.rows("SELECT at_ms FROM rejection") == [(LATER_MS,)]
    counted = "SELECT removed, count FROM removal ORDER BY removed"
    assert store.rows(counted) == [("body", 1), ("rejections", 1)]
    store.add(body=b"2", received_at_ms=NOW_MS - DAY_MS)  # the clock was set back meanwhile
    for is_whole in (False, True):
        round_ = Round(settings(body="1d"), is_whole=is_whole)
        work_off(store, round_)
        assert round_.removed[Removed.BODY] == is_whole


def test_a_transaction_changes_few_events_and_few_bytes_of_bodies(store: Store) -> None:
    store.add_at_once(2 * retention.BATCH)
    with changing(store.place) as connection:
        connection.execute(OVER)
        body = b"x" * (retention.MAX_BYTES * 2 // 3)
        connection.execute("UPDATE event SET body = ? WHERE id <= 4", [body])
    done = work_off(store, Round(settings(body="1d")))
    counts = [each.count for each in done if each.count]
    assert counts == [1, 1, 1, retention.BATCH, retention.BATCH - 3]


# ---- every column of the catalogue ----

CANARY = "canary"
FILL = (
    "INSERT INTO attempt (delivery_id, number, worker, action_digest, started_at_ms,"
    " finished_at_ms, outcome, claim_token) VALUES (1, 1, '', '', 0, 0, 'failed', '')",
    "INSERT INTO inquiry (at_ms, purpose, event_id, result, duration_ms)"
    " VALUES (0, 'pending', 1, 'settled', 1)",
    "INSERT INTO inquiry (at_ms, purpose, delivery_id, result, duration_ms)"
    " VALUES (0, 'confirm', 1, 'confirmed', 1)",
    "INSERT INTO inquiry (at_ms, purpose, stored_event_id, result, duration_ms)"
    " VALUES (0, 'reconcile', 1, 'settled', 1)",
    "INSERT INTO inquiry (at_ms, purpose, result, duration_ms)"
    " VALUES (0, 'reconcile', 'not_found', 1)",
    "INSERT INTO confirmation (delivery_id, at_ms, facts) VALUES (1, 0, '')",
    "INSERT INTO awaited (endpoint, reference, event_id, state, created_at_ms, finished_at_ms)"
    " VALUES ('', '', 1, 'settled', 0, 0)",
    "INSERT INTO operator_action (at_ms, actor, action, event_id) VALUES (0, '', 'reveal', 1)",
    "INSERT INTO operator_action (at_ms, actor, action, delivery_id) VALUES (0, '', 'replay', 1)",
    "INSERT INTO operator_action (at_ms, actor, action) VALUES (0, '', 'sign-in')",
    "INSERT INTO verification_name (name, verification, at_ms) VALUES ('1', '', 0)",
    "INSERT INTO verification_name (name, verification, at_ms) VALUES ('session-1', '', 0)",
    "INSERT INTO erased_event (event_id, erasure_id) VALUES (1, 1)",
    "INSERT INTO rejection (at_ms, endpoint, remote_ip, reason) VALUES (0, '', '', '')",
    "INSERT INTO console_token (kind, digest, actor, role, remote_ip, since_ms, until_ms)"
    " VALUES ('session', '', '', 'look', '', 0, 0)",
    "INSERT INTO hold (since_ms, actor, until_ms) VALUES (0, '', 1)",
    "INSERT INTO ordered (delivery_id, action, order_key, place) VALUES (1, 'crm', '', 1)",
)
REACHED = {
    "body": {Kept.BODY},
    "identity": {Kept.BODY, Kept.IDENTITY, Kept.UNTIL_ENDED},
    "record": {Kept.BODY, Kept.IDENTITY, Kept.RECORD, Kept.UNTIL_ENDED},
    "rejections": {Kept.REJECTIONS},
}
# Their rows stand for nobody any more, or are made by what is removed; a reason of a pause goes
# with it: tests/features/pause/test_pauses.py.
OUTLAST = {"erasure", "erased_name", "record", "gone_event", "once_run", "pause"}


def private(table: type[Table]) -> list[Any]:
    return [each for each in columns(table) if each.holds is not PLAIN]


def fill(store: Store) -> None:
    """Have a row in every table that holds something of people, and a canary in each column."""
    finish(store, store.add("crm", reference="ref").event_id, "cancelled")
    with changing(store.place, unchecked=True) as connection:
        for sql in FILL:
            connection.execute(sql)
        for table in Table.__subclasses__():
            name = str(table._meta.table_name)
            for column in private(table) if name not in OUTLAST else ():
                if (name, column.name) == ("verification_name", "name"):
                    continue
                is_name = name == "verification_name"
                value: Any = f"{CANARY}-reference" if is_name else f"{CANARY}-{column.name}"
                value = value.encode() if column.kind is ColumnType.BYTES else value
                connection.execute(f"UPDATE {name} SET {column.column_name} = ?", [value])
        connection.execute(f"UPDATE verification_name SET name = '{CANARY}-reference' WHERE id = 1")
        connection.execute(f"UPDATE verification_name SET name = 'session-{CANARY}' WHERE id = 2")


def canaries(store: Store) -> dict[str, Kept]:
    """Return the columns in which something private is found, and how long they are kept."""
    found = {}
    for table in Table.__subclasses__():
        name = table._meta.table_name
        for column in private(table):
            for (value,) in store.rows(f"SELECT {column.column_name} FROM {name}"):
                is_bytes = column.kind is ColumnType.BYTES
                text = bytes(value or b"") if is_bytes else str(value).encode()
                if name not in OUTLAST and CANARY.encode() in text:
                    found[f"{name}.{column.column_name}"] = column.kept
    return found


def test_every_column_that_holds_something_of_people_is_reached(store: Store) -> None:
    """Whichever are added to the catalogue: they are filled here, and looked at."""
    fill(store)
    everywhere = canaries(store)
    tables = {table._meta.table_name: private(table) for table in Table.__subclasses__()}
    filled = [(name, each) for name in tables.keys() - OUTLAST for each in tables[name]]
    expected = {f"{name}.{column.column_name}" for name, column in filled}
    assert everywhere.keys() == expected, "each is filled, so that it is known to be emptied"
    for removed, reached in REACHED.items():
        sweep(store, LATER_MS, **{removed: "1h"})
        left = canaries(store)
        assert not {name for name, kept in left.items() if kept in reached}, removed


# A few thousand rows at most.
SMALL = ('"rejection"', '"hold"', '"console_', "json_each", "CONSTANT ROW")


def test_no_statement_looks_at_all_there_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a million deliveries, one that looks through all of a state takes 0.3 s, for which
    webhooks wait. PostgreSQL knows how many there are of each."""
    texts: dict[str, Any] = {}
    run = SqliteTransaction._execute

    def note(self: Any, statement: Any, values: Any) -> Any:
        texts.setdefault(statement.text, statement.bind(values))
        return run(self, statement, values)

    def is_wide(text: str, step: str) -> bool:
        is_small = any(name in text + step for name in SMALL)
        return (step.startswith("SCAN") and not is_small) or "delivery_state" in step

    with store_at(path) as store:
        fill(store)
        for number, removed in enumerate(("body", "identity", "record", "rejections")):
            store.add(body=removed.encode(), user_ref=f"user-{number}")
            store.add("crm", body=b"waits %d" % number)
            with monkeypatch.context() as patched:
                patched.setattr(SqliteTransaction, "_execute", note)
                sweep(store, **{removed: "1h"})
        assert len(texts) > 50
        for text, values in texts.items():
            if not text.startswith(("INSERT", "BEGIN")):
                plan = [row[3] for row in store.rows(f"EXPLAIN QUERY PLAN {text}", *values)]
                assert not [step for step in plan if is_wide(text, step)], text


_LOCK_DELIVERY = Statement(Delivery.select(Delivery.id), locks=True)
_CHANGE_EVENT = Statement(Event.update(duplicate_count=1))


@pytest.mark.postgresql
@pytest.mark.parametrize("place", ["postgresql"], indirect=True)
@pytest.mark.parametrize("statement", [_LOCK_DELIVERY, _CHANGE_EVENT])
def test_what_another_host_changes_right_now_stays(store: Store, statement: Statement) -> None:
    """Nobody waits for the other: that would hold up webhooks, or end as a deadlock."""
    other = store.beside("other")
    finish(store, store.add("crm").event_id)
    run = "rows" if statement.locks else "change"
    with transaction_open(other, lambda transaction: getattr(transaction, run)(statement)):
        assert sweep(store, record="1d") == {}
    assert sweep(store, record="1d") == {"record": 1}
    other.close()


@pytest.mark.postgresql
@pytest.mark.parametrize("place", ["postgresql"], indirect=True)
def test_two_never_remove_at_the_same_time(store: Store) -> None:
    """A command and a daemon, say: the one looks again when the other is done."""
    other = store.beside("other")
    store.add()
    round_ = Round(settings(body="1d"))
    with transaction_open(other, lambda transaction: transaction.lock([retention.LOCK])):
        done = store.call(round_.work(LATER_MS))
        assert (done.is_busy, done.count) == (True, 0)
        round_.take(done)
    work_off(store, round_)
    assert (removed_parts(store), round_.removed[Removed.BODY]) == (["body"], 1)
    other.close()
