"""The inbox: what it answers is on the disk, and a duplicate runs nothing."""

import hashlib
import itertools
import random
from typing import Any

import pytest

from premblyd.prembly.payload import MAX_TEXT_BYTES, Webhook
from premblyd.queue import rejections
from premblyd.queue.arrivals import By, event_key
from premblyd.queue.digests import Digests
from premblyd.queue.inbox import Added, NewDelivery
from premblyd.queue.rejections import NewRejection
from premblyd.store.schema import TABLES
from tests.support.store import NOW_MS, VERDICT, Store, is_fault, new_event, new_rejection

DELIVERIES = """SELECT event_id, action, state, due_at_ms, attempts_left, created_at_ms
    FROM delivery ORDER BY id"""
COUNTS = "SELECT duplicate_count, last_duplicate_at_ms FROM event ORDER BY id"
EVENT = """SELECT key, endpoint, received_at_ms, remote_ip, token, headers, body_bytes, body_digest,
    verified_by, kind, response_code, status, detail, verification_status, outcome, reference,
    user_ref, session_id, face_match, face_confidence, duplicate_count, last_duplicate_at_ms, body
    FROM event"""
ONCE = [NewDelivery("crm", 3), NewDelivery("archive", 10)]


def put_events(store: Store, *events: Webhook, by: By = "body") -> list[Added]:
    """Add webhooks in one round of the loop, each with a delivery."""
    futures = [store.inbox.add(event, [NewDelivery("crm", 3)], by) for event in events]
    added = store.wait_all(futures)
    assert all(isinstance(each, Added) for each in added), added
    return [each for each in added if isinstance(each, Added)]


def put(store: Store, *bodies: str, **changes: Any) -> list[Added]:
    return put_events(store, *(new_event(body.encode(), **changes) for body in bodies))


def queued(store: Store) -> list[int]:
    return [event_id for (event_id,) in store.rows("SELECT event_id FROM delivery ORDER BY id")]


def test_when_add_returns_the_event_is_seen_by_everyone(store: Store) -> None:
    body = b'{"\xff": 1}\r\n'
    future = store.inbox.add(new_event(body), ONCE)
    seen: list[Any] = []
    future.add_done_callback(lambda _: seen.extend(store.rows("SELECT id FROM event")))
    added = store.wait(future)
    assert added == Added(1, added.key, True)
    assert seen == [(1,)]
    [row] = store.rows(EVENT)
    digest = store.digests.of_body(hashlib.sha256(body).digest())
    assert row == (
        *(added.key, "prembly", NOW_MS, "192.0.2.7", "hush-token", '[["User-Agent","Prembly"]]'),
        *(10, digest, "hmac-sha256:live", "sdk", "00", "true"),
        *(VERDICT.detail, "VERIFIED", "verified", "ref-1", "user-1", "hush-session", 1, 97.5),
        *(0, None, body),
    )


def test_an_event_and_its_deliveries_are_in_the_queue_at_once(store: Store) -> None:
    store.wait(store.inbox.add(new_event(), ONCE))
    assert store.rows(DELIVERIES) == [
        (1, "crm", "pending", NOW_MS, 3, NOW_MS),
        (1, "archive", "pending", NOW_MS, 10, NOW_MS),
    ]


@pytest.mark.usefixtures("lines")
def test_an_event_whose_deliveries_fail_is_not_kept_either(store: Store) -> None:
    good = store.inbox.add(new_event(b"good"), ONCE)
    bad = store.inbox.add(new_event(b"bad"), [NewDelivery("crm", 3), NewDelivery("huge", 1 << 64)])
    results = store.wait_all([good, bad])
    assert isinstance(results[0], Added)
    assert is_fault(results[1])
    assert store.add(body=b"next").event_id == 2 or store.backend.is_shared, "no gap in SQLite"
    assert store.bodies() == [b"good", b"next"]
    assert len(queued(store)) == 2


def test_an_event_that_no_action_wants_is_kept(store: Store) -> None:
    assert store.add().is_new
    assert queued(store) == []


def test_a_duplicate_runs_nothing_and_is_counted(store: Store) -> None:
    first = store.add("crm")
    for count in (1, 2):
        again = store.add("crm", received_at_ms=NOW_MS + count, reference="other", headers="[]")
        assert again == Added(first.event_id, first.key, False)
        assert store.rows(COUNTS) == [(count, NOW_MS + count)]
    assert queued(store) == [1]


def test_duplicates_that_race_run_nothing(store: Store) -> None:
    first, *others = put(store, *["same"] * 150)
    assert first.is_new
    assert set(others) == {Added(first.event_id, first.key, False)}
    assert put(store, "same", "same") == others[:2]
    assert store.rows(COUNTS) == [(151, NOW_MS)]
    assert queued(store) == [1]


MIXED = ["".join(pattern) for pattern in itertools.product("no", repeat=4)]


@pytest.mark.parametrize("padding", [0, 60])
def test_new_ones_among_duplicates_get_the_ids_of_their_own_rows(
    store: Store, padding: int
) -> None:
    """Every order of new and old, at every place in the parts of a bulk insert."""
    put(store, "old")
    for number, pattern in enumerate(MIXED):
        before = len(queued(store))
        names = [
            f"{number} {place}" if letter == "n" else "old"
            for place, letter in enumerate("n" * padding + pattern)
        ]
        added = put(store, *names)
        assert [one.is_new for one in added] == [name != "old" for name in names]
        stored = {
            body.decode(): (event_id, key)
            for event_id, key, body in store.rows("SELECT id, key, body FROM event")
        }
        assert [(one.event_id, one.key) for one in added] == [stored[name] for name in names]
        new_ids = [one.event_id for one in added if one.is_new]
        assert queued(store)[before:] == new_ids
    assert store.rows(COUNTS)[0][0] == "".join(MIXED).count("o")
    if not store.backend.is_shared:  # a number that is missing is a deletion, to an auditor
        count = 1 + "".join(MIXED).count("n") + padding * len(MIXED)
        assert queued(store) == [*range(1, count + 1)]


def refused(number: int) -> NewRejection:
    return new_rejection(at_ms=NOW_MS + number, body_bytes=number or None)


def test_only_the_newest_rejections_are_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rejections.MAX_REJECTIONS == 10_000
    monkeypatch.setattr(rejections, "MAX_REJECTIONS", 5)
    for batch in (range(4), range(4, 8), range(8, 9)):
        store.wait_all(store.inbox.reject(refused(number)) for number in batch)
    kept = store.rows("SELECT * FROM rejection ORDER BY id")
    assert [row[0] for row in kept] == [5, 6, 7, 8, 9]
    assert kept[-1] == (9, NOW_MS + 8, "prembly", "192.0.2.7", "wrong signature", 8, None, None)


def test_a_health_check_leaves_nothing(store: Store) -> None:
    tables = [table._meta.table_name for table in TABLES]
    before = [store.rows(f"SELECT * FROM {table}") for table in tables]
    assert store.wait_all(store.inbox.prove_commit() for _ in range(3)) == [None] * 3
    assert [store.rows(f"SELECT * FROM {table}") for table in tables] == before
    assert store.add("crm").event_id == 1, "no number is used up"
    assert store.rows("SELECT id FROM delivery") == [(1,)]


# What a duplicate is: by the body or by the token.

NOTHING: list[dict[str, Any]] = [
    {"reference": nothing, "session_id": nothing} for nothing in (None, "")
]


def test_without_the_databases_own_key_no_digest_can_be_made(store: Store) -> None:
    """Else a NIN could be tried offline until the digest of a body fits, also when it is erased."""
    event = new_event()
    [added] = put_events(store, event)
    own, other = store.digests, Digests(b"another key")
    made = [(event_key(each, event), each.of_body(event.body_sha256)) for each in (own, other)]
    assert store.rows("SELECT key, body_digest FROM event") == [made[0]]
    assert added.key == made[0][0]
    assert not set(made[0]) & set(made[1])
    assert event.body_sha256.hex()[:32] not in str(store.rows("SELECT * FROM event"))


def test_another_token_makes_no_other_event(store: Store) -> None:
    [first] = put_events(store, new_event())
    tokens = ["other", None, "", "t" * 4000]
    for count, token in enumerate(tokens, 1):
        assert put_events(store, new_event(token=token)) == [Added(1, first.key, False)]
        assert store.rows(COUNTS) == [(count, NOW_MS)]
    assert store.rows("SELECT token FROM event") == [("hush-token",)]
    assert store.rows("SELECT count(*) FROM delivery") == [(1,)]


def test_another_body_or_endpoint_is_another_event(store: Store) -> None:
    others: list[dict[str, Any]] = [{"endpoint": "other"}, {"body": b'{"hush": "body" }'}]
    events = [new_event(**each) for each in [{}, *others, {"endpoint": "o", "token": "ther"}]]
    added = put_events(store, *events)
    assert [each.is_new for each in added] == [True] * 4
    assert all(len(bytes.fromhex(each.key)) == 16 for each in added)
    assert not any(each.is_new for each in put_events(store, *events))


@pytest.mark.parametrize("ids", [{"reference": None}, {"session_id": None}])
def test_a_session_or_a_reference_is_id_enough(store: Store, ids: dict[str, Any]) -> None:
    first, again = put_events(store, new_event(**ids), new_event(**ids, token=None))
    assert (first.is_new, again.is_new) == (True, False)


@pytest.mark.parametrize("nothing", NOTHING)
def test_without_an_id_the_token_tells(store: Store, nothing: dict[str, Any]) -> None:
    tokens = ["a", "a", "b"]
    added = put_events(store, *(new_event(b"{}", token=token, **nothing) for token in tokens))
    assert [each.is_new for each in added] == [True, False, True]


@pytest.mark.parametrize("by", ["body", "token"])
@pytest.mark.parametrize("nothing", NOTHING)
def test_without_any_id_and_token_nothing_is_a_duplicate(
    store: Store, by: By, nothing: dict[str, Any]
) -> None:
    added = put_events(store, *[new_event(b"{}", token=None, **nothing)] * 5, by=by)
    assert [each.is_new for each in added] == [True] * 5
    assert store.rows("SELECT count(*) FROM delivery") == [(5,)]


def test_by_token_another_token_is_another_event(store: Store) -> None:
    events = [new_event(token=token) for token in ("a", "b", None, "")]
    added = put_events(store, *events, *events, by="token")
    assert [each.is_new for each in added] == [True, True, True, *[False] * 5]
    assert len({each.key for each in added}) == 3


# Values that are hard to keep: both engines keep them, or fail that webhook alone.


def test_a_body_of_sixteen_mib_is_kept(store: Store) -> None:
    body = bytes(range(256)) * (1 << 16)
    store.add("crm", body=body)
    assert store.bodies() == [body]


def test_a_text_with_nul_is_kept_or_marked(store: Store) -> None:
    store.add("crm", reference="a\0b")
    [(reference,)] = store.rows("SELECT reference FROM event")
    assert reference in ("a\0b", "a\N{REPLACEMENT CHARACTER}b")  # PostgreSQL has no NUL in a text


@pytest.mark.usefixtures("lines")
def test_a_text_that_is_no_unicode_fails_alone(store: Store) -> None:
    bad = store.inbox.add(new_event(b"bad", reference="\ud800"), [])
    good = store.inbox.add(new_event(b"good"), [])
    assert is_fault(store.wait_all([bad, good])[0])
    assert store.bodies() == [b"good"]


NAMES = ("response_code", "reference", "user_ref", "session_id")


def test_the_longest_texts_that_are_read_are_kept(store: Store) -> None:
    names: dict[str, Any] = {name: _text(MAX_TEXT_BYTES) for name in NAMES}
    store.wait(store.inbox.add(new_event(**names), []))
    assert store.rows(f"SELECT {', '.join(NAMES)} FROM event") == [tuple(names.values())]


@pytest.mark.usefixtures("lines")
@pytest.mark.parametrize("name", NAMES)
def test_a_text_that_is_too_long_for_an_index_fails_alone(store: Store, name: str) -> None:
    bad = store.inbox.add(new_event(b"bad", **{name: _text(10_000)}), [])
    good = store.inbox.add(new_event(b"good"), [])
    store.wait_all([bad, good])
    assert b"good" in store.bodies()
    assert store.writer.last_error is None


def _text(length: int) -> str:
    """Return a text that can't be compressed, as PostgreSQL would do."""
    return "".join(random.Random(length).choices("0123456789abcdefghijklmnopqrstuvwxyz", k=length))


def test_texts_sort_by_their_bytes(store: Store) -> None:
    for number, reference in enumerate(["é", "a", "_", "B", "~1", "A"]):
        store.add("crm", body=b"%d" % number, reference=reference)
    rows = store.rows("SELECT reference FROM event ORDER BY reference")
    assert [reference for (reference,) in rows] == ["A", "B", "_", "a", "~1", "é"]
