"""`premblyd replay` of pending deliveries and for new actions, its dry run and its question."""

import json
import os
import pty
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import (
    ACTIONS,
    Ran,
    json_of,
    read,
    recorded_in,
    run,
    run_process,
)
from tests.support.configuration import configuration, shell
from tests.support.database import by_hand, url_of
from tests.support.rows import for_each

DELIVERIES = "SELECT id, event_id, action, state, due_at_ms, attempts_left FROM delivery"
RECORDED = """SELECT action, event_id, delivery_id, note FROM operator_action
    WHERE note IS NOT NULL ORDER BY id"""
NEW = shell("greet", "true", "00", when="outcome == 'verified'", retry={"attempts": 7})


def _configure(config: Path, **changes: Any) -> None:
    database = url_of(recorded_in(config))
    config.write_text(json.dumps(configuration(database=database, **changes)))


def with_actions(config: Path, *actions: dict[str, Any]) -> Path:
    """Give the recorded configuration these actions too."""
    _configure(config, actions=[*ACTIONS, *actions])
    return config


def replay(config: Path, *arguments: object) -> Any:
    """Return what `replay --json` prints."""
    return json_of(config, "replay", *arguments)


def test_an_action_that_nobody_knows_is_an_error(config: Path) -> None:
    before = read(config, DELIVERIES)
    for options in (["--since", "1h"], ["--dead"], ["--pending"], ["1"]):
        done = run("replay", "--action", "archiv", *options, "--config", config)
        assert done == Ran(1, "", "There is no action archiv.\n")
    assert read(config, DELIVERIES) == before


def test_an_action_that_only_the_database_knows_is_no_error(config: Path) -> None:
    _configure(config)
    assert replay(config, "--dead", "--action", "activate-customer")["left_alone"]
    done = run("replay", "--dead", "--action", "archive", "--config", config)
    assert done == Ran(0, "Queued 0 deliveries.\n", "")


def test_pending_deliveries_are_due_now_with_what_is_left_of_their_budget(config: Path) -> None:
    later = f"{DELIVERIES} WHERE action = 'ask-compliance' AND state = 'pending'"
    before = read(config, later)
    assert before
    replay(config, "--pending", "--action", "archive")
    assert read(config, later) == before
    assert replay(config, "--pending", "--action", "ask-compliance")["queued"] == len(before)
    after = read(config, later)
    assert [row[:4] + row[5:] for row in after] == [row[:4] + row[5:] for row in before]
    assert all(new[4] < old[4] for new, old in zip(after, before, strict=True))
    recorded = read(config, RECORDED)
    assert {("replay", None, row[0], "was pending") for row in before} <= {*recorded}


def test_pending_may_be_one_event_or_one_delivery(config: Path) -> None:
    soon_ms = int((time.time() + 60) * 1000)
    ((number, event, *_),) = read(config, f"{DELIVERIES} WHERE due_at_ms > ?", soon_ms)
    assert replay(config, event, "--pending", "--dry-run")["would_queue"]
    assert replay(config, "--delivery", number)["queued"] == 1


def test_a_pending_delivery_without_an_action_is_left_alone(config: Path) -> None:
    _configure(config)
    before = read(config, DELIVERIES)
    left = replay(config, "--pending")["left_alone"]
    assert "the configuration has no action ask-compliance" in left
    assert read(config, DELIVERIES) == before


def test_a_new_action_is_queued_for_the_old_events_that_it_is_for(config: Path) -> None:
    with_actions(config, NEW)
    verified = "response_code = '00' AND outcome = 'verified'"
    events = [row for (row,) in read(config, f"SELECT id FROM event WHERE {verified} ORDER BY id")]
    (others,) = read(config, f"SELECT count(*) FROM event WHERE ({verified}) IS NOT TRUE")[0]
    (wallet,) = read(config, "SELECT id FROM event WHERE response_code = '03' ORDER BY id")[0]
    done = run("replay", wallet, "--action", "greet", "--new", "--config", config)
    not_for = "Left alone: 1, because response code 03 is not in [00].\n"
    assert done.out == f"Queued 0 deliveries.\n{not_for}"
    whole = replay(config, "--since", "1h", "--action", "greet", "--new")
    assert whole["queued"] == len(events) > 1
    assert sum(whole["left_alone"].values()) == others
    assert "`when` is false: outcome == 'verified'" in whole["left_alone"]
    made = read(config, f"{DELIVERIES} WHERE action = 'greet' ORDER BY id")
    assert [row[1] for row in made] == events
    assert {(row[3], row[5]) for row in made} == {("pending", 7)}
    parts = [("replay", row[1], row[0], "new delivery") for row in made]
    assert read(config, RECORDED) == [("replay", None, None, f"{len(made)} deliveries"), *parts]
    assert read(config, "SELECT count(DISTINCT part_of_id) FROM operator_action") == [(1,)]


def test_new_queues_what_is_missing_and_leaves_what_is_there(config: Path) -> None:
    with_actions(config, NEW)
    greet = ("--since", "1h", "--action", "greet")
    (first, *others) = replay(config, *greet, "--new", "--dry-run")["would_queue"]
    assert replay(config, first["event_id"], "--action", "greet", "--new")["queued"] == 1
    assert replay(config, *greet)["left_alone"] == {"they are pending or running": 1}
    assert replay(config, *greet, "--new")["queued"] == len(others)
    assert replay(config, *greet, "--new")["queued"] == 0


@for_each(
    ("options", "words"),
    [
        (["--pending", "--dead"], "don't go together"),
        (["1", "--delivery", "2"], "don't go together"),
        (["--new", "--dead"], "don't go together"),
        (["--new", "1"], "--new needs --action"),
        (["--new", "--action", "x", "--since", "1h", "--error", "x"], "--new needs --action"),
    ],
)
def test_what_goes_not_together_is_told(config: Path, options: list[str], words: str) -> None:
    done = run("replay", *options, "--config", config)
    assert (done.code, done.out, words in done.err) == (2, "", True), done.err


def test_what_is_replayed_is_chosen_as_in_the_lists(config: Path) -> None:
    change = "UPDATE delivery SET last_error = 'the TLS certificate is not trusted' WHERE id = ?"
    (first, *others) = sorted(row[0] for row in read(config, f"{DELIVERIES} WHERE state = 'dead'"))
    by_hand(recorded_in(config), change, first)

    def found(*options: str) -> list[int]:
        plan = replay(config, "--dead", "--dry-run", *options)
        return [each["id"] for each in plan["would_queue"]]

    assert found("--error", "tls") == [first]
    assert found("--until", "2026-01-01") == found("--type", "none.at_all") == []
    assert found("--type", "*", "--since", "1h") == [first, *others]


def test_a_dry_run_lists_and_changes_nothing(config: Path) -> None:
    before = read(config, DELIVERIES)
    dead = sorted(row for row in before if row[3] == "dead")
    names = ("id", "event_id", "action", "state")
    assert replay(config, "--dead", "--dry-run")["would_queue"] == [
        dict(zip(names, row[:4], strict=True)) for row in dead
    ]
    printed = run("replay", "--dead", "--dry-run", "--config", config).out.splitlines()
    assert printed[0] == f"Would queue {len(dead)} deliveries."
    assert printed[2].split() == [*map(str, dead[0][:2]), dead[0][2], "dead"]
    assert read(config, DELIVERIES) == before
    assert read(config, "SELECT count(*) FROM operator_action") == [(3,)]


def on_a_terminal(answer: str, *arguments: object) -> tuple[int, str]:
    """Run a command whose standard input is a terminal, on which `answer` is typed."""
    ours, theirs = pty.openpty()
    try:
        os.write(ours, answer.encode())
        done = run_process(*arguments, stdin=theirs)
    finally:
        os.close(ours)
        os.close(theirs)
    return done.code, done.out + done.err


@pytest.mark.process
def test_more_than_a_few_are_asked_about_on_a_terminal_only(config: Path) -> None:
    with_actions(config, shell("every", "true"))
    everything = ["replay", "--since", "1h", "--action", "every", "--new", "--config", config]
    before = read(config, DELIVERIES)
    count = len(read(config, "SELECT id FROM event"))
    assert count > 20
    status, said = on_a_terminal("n\n", *everything)
    assert (status, f"Queue {count} deliveries? [y/N]" in said) == (1, True)
    assert read(config, DELIVERIES) == before
    status, said = on_a_terminal("", *everything, "--yes")
    assert (status, said) == (0, f"Queued {count} deliveries.\n")
    few = len([row for row in before if row[3] == "dead"])
    assert few <= 20
    status, said = on_a_terminal("", "replay", "--dead", "--config", config)
    assert (status, said) == (0, f"Queued {few} deliveries.\n")
    again = run("replay", "--since", "1h", "--action", "every", "--new", "--config", config)
    assert again.code == 0, "a script is not asked"
