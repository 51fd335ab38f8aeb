"""How many people's data is held, and of which kinds."""

from pathlib import Path
from typing import Any

import pytest

from premblyd.engines.engine import Database
from premblyd.record import people
from premblyd.record.people import PHOTO_BYTES, People
from premblyd.times import HOUR_MS
from tests.support.commands import json_of, recorded_in, run
from tests.support.database import rows
from tests.support.store import NOW_MS, Store

NOBODY: dict[str, Any] = {"user_ref": None, "reference": None, "session_id": None}


def arrive(store: Store, **about: Any) -> None:
    body = about.pop("body", b"%d" % len(store.rows("SELECT id FROM event")))
    store.add("crm", body=body, **{**NOBODY, **about})


def counted(database: Database, since_ms: int = 0, until_ms: int = NOW_MS * 2) -> People:
    return people.of_period(database, since_ms, until_ms)


def test_people_are_counted_once_however_many_events_name_them(
    store: Store, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(people, "PEOPLE", 2)
    monkeypatch.setattr(people, "STRETCH", 2)
    for user_ref in ("ada", "eve", "ada", "kim", "zoe", "eve"):
        arrive(store, user_ref=user_ref, reference="ref-1")
    for reference in ("ref-1", "ref-2", "ref-1"):
        arrive(store, reference=reference)
    arrive(store)
    found = counted(database)
    assert (found.people, found.references, found.nameless) == (4, 2, 1)
    assert found.records["events"] == 10


def test_a_reference_is_counted_once_in_all_spellings(store: Store, database: Database) -> None:
    uuid = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
    for spelt in (uuid, uuid.upper(), uuid.replace("-", "")):
        arrive(store, reference=spelt)
    assert counted(database).references == 1


def test_the_kinds_are_those_that_are_still_held(store: Store, database: Database) -> None:
    arrive(store, user_ref="ada", body=b"x" * PHOTO_BYTES)
    for lacks in ("media", "body", "identity", "erased"):
        arrive(store, user_ref="ada", body=lacks.encode() * PHOTO_BYTES)
        store.by_hand("UPDATE event SET lacks = ? WHERE id = (SELECT max(id) FROM event)", lacks)
    store.by_hand(
        "INSERT INTO attempt (delivery_id, number, worker, action_digest, started_at_ms, output)"
        " SELECT id, 1, 'w', 'd', ?, CASE WHEN id / 2 * 2 = id THEN 'printed' END FROM delivery",
        NOW_MS,
    )
    store.by_hand(
        "INSERT INTO inquiry (at_ms, purpose, result, duration_ms)"
        " VALUES (?, 'pending', 'refused', 1)",
        NOW_MS,
    )
    store.by_hand(
        "INSERT INTO rejection (at_ms, endpoint, remote_ip, reason) VALUES (?, 'e', 'a', 'r')",
        NOW_MS,
    )
    found = counted(database)
    outputs = store.rows("SELECT count(*) FROM delivery WHERE id / 2 * 2 = id")
    assert found.records == {
        "events": 5,
        "bodies": 2,
        "photos": 1,
        "names": 3,
        "addresses": 5,
        "outputs": outputs[0][0],
        "questions": 1,
        "rejections": 1,
    }
    assert found.lacking == {"media": 1, "body": 1, "identity": 1, "erased": 1}


def test_only_the_period_counts_whenever_the_clock_was_set(
    store: Store, database: Database
) -> None:
    for number, at_ms in enumerate((0, 10, -5, HOUR_MS * 3, 3, HOUR_MS * 5, HOUR_MS * 4)):
        arrive(store, user_ref=f"user-{number}", received_at_ms=NOW_MS + at_ms)
    found = counted(database, NOW_MS, NOW_MS + HOUR_MS * 5)
    assert (found.people, found.records["events"]) == (5, 5)
    assert (found.oldest_ms, found.newest_ms) == (NOW_MS, NOW_MS + HOUR_MS * 4)
    nothing = counted(database, NOW_MS + HOUR_MS * 9)
    assert (nothing.people, nothing.oldest_ms, nothing.records["events"]) == (0, None, 0)


def test_how_far_it_is_can_be_watched(
    store: Store, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(people, "STRETCH", 2)
    for _ in range(5):
        arrive(store)
    told: list[tuple[int, int]] = []
    people.of_period(database, 0, NOW_MS * 2, lambda done, of: told.append((done, of)))
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1][0] == told[-1][1]


def test_stats_tell_of_people(config: Path) -> None:
    told = json_of(config, "stats", "--people")
    assert list(told) == [
        *("since_ms", "until_ms", "people", "references", "nameless", "oldest_ms", "newest_ms"),
        *("records", "lacking"),
    ]
    assert list(told["records"]) == [
        *("events", "bodies", "photos", "names", "addresses", "outputs", "questions"),
        "rejections",
    ]
    named = "SELECT count(DISTINCT user_ref) FROM event"
    assert [(told["people"],)] == rows(recorded_in(config), named)
    done = run("stats", "--people", "--since", "1d", "--config", config)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"{told['people']} people since ")
    assert "questions to Prembly" not in done.out, "nothing was asked"
    assert "Not known: " in done.out
