"""What a duplicate is: by the body or by the token."""

from typing import Any

import pytest

from premblyd.prembly.payload import Webhook
from premblyd.queue.arrivals import By, event_key
from premblyd.queue.inbox import Added, NewDelivery
from premblyd.verifications.digests import Digests
from tests.support.store import NOW_MS, Store, new_event

COUNTS = "SELECT duplicate_count, last_duplicate_at_ms FROM event ORDER BY id"
NOTHING: list[dict[str, Any]] = [
    {"reference": nothing, "session_id": nothing} for nothing in (None, "")
]


def put(store: Store, *events: Webhook, by: By = "body") -> list[Added]:
    """Add webhooks in one round of the loop, each with a delivery."""
    futures = [store.inbox.add(event, [NewDelivery("crm", 3)], by) for event in events]
    added = store.wait_all(futures)
    assert all(isinstance(each, Added) for each in added), added
    return [each for each in added if isinstance(each, Added)]


def test_without_the_databases_own_key_no_digest_can_be_made(store: Store) -> None:
    """Else a NIN could be tried offline until the digest of a body fits, also when it is erased."""
    event = new_event()
    [added] = put(store, event)
    own, other = store.digests, Digests(b"another key")
    made = [(event_key(each, event), each.of_body(event.body_sha256)) for each in (own, other)]
    assert store.rows("SELECT key, body_digest FROM event") == [made[0]]
    assert added.key == made[0][0]
    assert not set(made[0]) & set(made[1])
    assert event.body_sha256.hex()[:32] not in str(store.rows("SELECT * FROM event"))


def test_another_token_makes_no_other_event(store: Store) -> None:
    [first] = put(store, new_event())
    tokens = ["other", None, "", "t" * 4000]
    for count, token in enumerate(tokens, 1):
        assert put(store, new_event(token=token)) == [Added(1, first.key, False)]
        assert store.rows(COUNTS) == [(count, NOW_MS)]
    assert store.rows("SELECT token FROM event") == [("hush-token",)]
    assert store.rows("SELECT count(*) FROM delivery") == [(1,)]


def test_another_body_or_endpoint_is_another_event(store: Store) -> None:
    others: list[dict[str, Any]] = [{"endpoint": "other"}, {"body": b'{"hush": "body" }'}]
    events = [new_event(**each) for each in [{}, *others, {"endpoint": "o", "token": "ther"}]]
    added = put(store, *events)
    assert [each.is_new for each in added] == [True] * 4
    assert all(len(bytes.fromhex(each.key)) == 16 for each in added)
    assert not any(each.is_new for each in put(store, *events))


@pytest.mark.parametrize("ids", [{"reference": None}, {"session_id": None}])
def test_a_session_or_a_reference_is_id_enough(store: Store, ids: dict[str, Any]) -> None:
    first, again = put(store, new_event(**ids), new_event(**ids, token=None))
    assert (first.is_new, again.is_new) == (True, False)


@pytest.mark.parametrize("nothing", NOTHING)
def test_without_an_id_the_token_tells(store: Store, nothing: dict[str, Any]) -> None:
    tokens = ["a", "a", "b"]
    added = put(store, *(new_event(b"{}", token=token, **nothing) for token in tokens))
    assert [each.is_new for each in added] == [True, False, True]


@pytest.mark.parametrize("by", ["body", "token"])
@pytest.mark.parametrize("nothing", NOTHING)
def test_without_any_id_and_token_nothing_is_a_duplicate(
    store: Store, by: By, nothing: dict[str, Any]
) -> None:
    added = put(store, *[new_event(b"{}", token=None, **nothing)] * 5, by=by)
    assert [each.is_new for each in added] == [True] * 5
    assert store.rows("SELECT count(*) FROM delivery") == [(5,)]


def test_by_token_another_token_is_another_event(store: Store) -> None:
    events = [new_event(token=token) for token in ("a", "b", None, "")]
    added = put(store, *events, *events, by="token")
    assert [each.is_new for each in added] == [True, True, True, *[False] * 5]
    assert len({each.key for each in added}) == 3
