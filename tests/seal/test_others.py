"""What the webhooks of a verification say is the same where it is sealed: each thing once."""

import pytest

from premblyd.prembly import payload
from premblyd.prembly.payload import Verdict
from premblyd.verifications.stored import found_others
from tests.support.store import Store


def others(store: Store) -> list[Verdict]:
    def read(endpoint: str, verified_by: str, body: bytes) -> Verdict:
        return payload.read(body)

    return store.wait(store.writer.call(lambda one: found_others(one, {"ref-1"}, read)))


def add_alike(store: Store, count: int) -> None:
    for number in range(count):
        store.add(body=b"%d" % number)


def test_what_is_said_again_and_again_is_said_once(sealed: Store) -> None:
    add_alike(sealed, 3)
    sealed.add(body=b"other", detail="another word")
    assert sorted(each.detail or "" for each in others(sealed)) == [
        "Verification successful",
        "another word",
    ]


def test_of_too_many_none_is_left_out(sealed: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("premblyd.verifications.stored.MOST_OPENED", 2)
    add_alike(sealed, 3)
    assert len(others(sealed)) == 3


def test_what_somebody_changed_says_nothing(sealed: Store) -> None:
    add_alike(sealed, 1)
    sealed.by_hand("UPDATE event SET detail = token")
    assert [each.detail for each in others(sealed)] == [None]
