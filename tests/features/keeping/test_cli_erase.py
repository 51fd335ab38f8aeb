"""`premblyd person erase`."""

import json
from contextlib import closing
from pathlib import Path
from unittest import mock

import pytest

from premblyd.features.keeping import erasing
from premblyd.store.connections import connect_operator
from tests.support.commands import Ran, json_of, recorded_in, run
from tests.support.database import rows
from tests.support.rows import for_each

USER = """SELECT user_ref FROM event WHERE user_ref IS NOT NULL AND reference IS NOT NULL
    ORDER BY id LIMIT 1"""


@pytest.fixture
def user_ref(config: Path) -> str:
    """Somebody of whom the record has events."""
    ((name,),) = rows(recorded_in(config), USER)
    return str(name)


def erase(config: Path, *arguments: object, stdin: bytes | None = None) -> Ran:
    """Run it, without a question."""
    return run("person", "erase", *arguments, "--yes", "--json", "--config", config, stdin=stdin)


def test_a_person_is_counted_erased_and_known_again(config: Path, user_ref: str) -> None:
    counted = erase(config, "--user-ref", "-", "--dry-run", stdin=f"{user_ref}\n".encode())
    would = json.loads(counted.out)
    assert would["event_ids"]
    assert rows(recorded_in(config), USER) == [(user_ref,)], "nothing was erased yet"
    done = erase(config, "--user-ref", user_ref, "--reason", "ticket 7")
    told = json.loads(done.out)
    assert done.code == 0
    assert told["event_ids"] == would["event_ids"]
    assert rows(recorded_in(config), USER) != [(user_ref,)]
    erasure = "SELECT id, events, reason, found_by FROM erasure"
    about = (told["erasure_id"], len(would["event_ids"]), "ticket 7", "user_ref")
    assert rows(recorded_in(config), erasure) == [about]
    again = run("person", "erase", "--user-ref", user_ref, "--yes", "--config", config)
    assert (again.code, again.out.partition(" ")[0]) == (0, "Already")
    assert f"(erasure {told['erasure_id']})" in again.out
    nobody = erase(config, "--user-ref", f"{user_ref}-7")
    assert (nobody.code, nobody.out) == (1, "")
    assert user_ref not in counted.out + done.out + counted.err + nobody.err


def test_what_a_forger_or_somebody_else_may_have_to_do_with_it_is_told(config: Path) -> None:
    nameless = "SELECT id, reference FROM event WHERE user_ref IS NULL AND reference IS NOT NULL"
    number, reference = rows(recorded_in(config), f"{nameless} ORDER BY id LIMIT 1")[0]
    ((last,),) = rows(recorded_in(config), "SELECT max(id) FROM event")
    names = f"user_ref = 'mallory', reference = '{reference}'"
    change(config, f"UPDATE event SET {names} WHERE id = {last}")
    done = run("person", "erase", "--user-ref", "mallory", "--dry-run", "--config", config)
    assert f"Would erase 2 events ({number}, {last})" in done.out
    assert "1 event without a user_ref, found by a reference alone" in done.err
    change(config, f"UPDATE event SET user_ref = 'eve' WHERE id = {number}")
    done = erase(config, "--user-ref", "mallory")
    assert (done.code, json.loads(done.out)["other_ids"]) == (0, [number])
    assert (
        f"Left out: 1 event under the same names, of somebody else or in doubt: {number}."
        in done.err
    )


def test_nobody_is_erased_without_a_question_or_a_yes(config: Path) -> None:
    refused = run("person", "erase", "--event", 1, "--config", config)
    assert (refused.code, refused.out) == (2, "")
    assert "add --yes" in refused.err
    assert rows(recorded_in(config), "SELECT id FROM erasure") == []


def test_a_hold_refuses_and_so_does_a_reason_that_has_the_name(config: Path, user_ref: str) -> None:
    refused = erase(config, "--user-ref", user_ref, "--reason", f"{user_ref} asked")
    assert (refused.code, user_ref in refused.err) == (2, False)
    hold = json_of(config, "person", "hold", "--user-ref", user_ref)["hold_id"]
    refused = erase(config, "--user-ref", user_ref)
    assert (refused.code, f"hold {hold} forbids it" in refused.err) == (1, True)
    assert json.loads(erase(config, "--user-ref", user_ref, "--dry-run").out)["hold_ids"] == [hold]
    assert rows(recorded_in(config), "SELECT id FROM erasure") == []


def test_interrupted_between_two_portions_it_goes_on_when_it_is_run_again(
    config: Path, user_ref: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(config, f"UPDATE event SET user_ref = '{user_ref}' WHERE id > 3")
    monkeypatch.setattr(erasing, "MOST_AT_ONCE", 1)
    with monkeypatch.context() as patch:
        patch.setattr(erasing, "go_on", mock.Mock(side_effect=KeyboardInterrupt))
        stopped = erase(config, "--user-ref", user_ref)
    assert stopped.code == 1
    assert "Run the same command again to continue." in stopped.err
    again = erase(config, "--user-ref", user_ref)
    assert (again.code, user_ref in again.out) == (0, False)
    assert rows(recorded_in(config), "SELECT count(*) FROM erasure") == [(1,)]
    assert rows(recorded_in(config), "SELECT id FROM event WHERE user_ref = ?", user_ref) == []


@for_each(
    ("arguments", "words"),
    [
        ((), "Say who or what"),
        (("--user-ref", "u", "--event", "1"), "by one option"),
    ],
)
def test_wrong_usage_is_explained(config: Path, arguments: tuple[str, ...], words: str) -> None:
    refused = erase(config, *arguments)
    assert refused.code == 2
    assert words in refused.err


def change(config: Path, sql: str) -> None:
    with closing(connect_operator(recorded_in(config))) as database:
        database.execute_sql(sql)
