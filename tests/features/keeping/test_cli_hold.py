"""`premblyd person hold`."""

import json
from pathlib import Path

import pytest

from tests.support.commands import Ran, json_of, read, recorded_in, run
from tests.support.database import by_hand
from tests.support.rows import for_each

DAY_MS = 86_400_000
USER = "SELECT user_ref FROM event WHERE user_ref IS NOT NULL ORDER BY id LIMIT 1"


def test_a_hold_is_placed_listed_and_ended(config: Path) -> None:
    ((user_ref,),) = read(config, USER)
    words = ("--user-ref", user_ref, "--until", "2y", "--reason", "claim")
    placed = json_of(config, "person", "hold", *words)
    assert placed["events"] > 0
    (row,) = json_of(config, "person", "hold", "--list")
    assert (row["id"], row["user_ref"], row["reason"]) == (placed["hold_id"], user_ref, "claim")
    assert row["until_ms"] - row["since_ms"] == 2 * 366 * DAY_MS
    assert user_ref in run("person", "hold", "--list", "--config", config).out
    [(event,)] = read(config, "SELECT min(id) FROM event WHERE user_ref = ?", user_ref)
    shown = run("show", event, "--config", config).out
    assert "It is on legal hold: none of it is deleted until the hold ends" in shown
    done = run("person", "release", placed["hold_id"], "--config", config)
    assert done == Ran(0, f"Ended hold {placed['hold_id']}.\n", "")
    assert json_of(config, "person", "hold", "--list") == []


@pytest.mark.parametrize("name", ["--user-ref", "--reference"])
def test_a_name_that_no_event_has_is_held_for_what_comes(config: Path, name: str) -> None:
    done = run("person", "hold", name, "hush-nobody", "--config", config)
    assert (done.code, done.err) == (0, "")
    assert "Nothing has this name yet: check the spelling." in done.out
    assert "hush" not in done.out
    assert len(json_of(config, "person", "hold", "--list")) == 1


def test_a_verification_is_found_by_another_name_that_prembly_gave_it(config: Path) -> None:
    ((reference,),) = read(config, "SELECT min(reference) FROM event")
    named = "INSERT INTO verification_name (name, verification, at_ms) VALUES (?, 'v', 1)"
    for name in (reference, "another-name"):
        by_hand(recorded_in(config), named, name)
    assert json_of(config, "person", "hold", "--reference", "another-name")["events"] > 0


def test_names_are_read_from_standard_input_a_line_each(config: Path) -> None:
    arguments = ("--user-ref", "-", "--reason", "-", "--config", config)
    done = run("person", "hold", *arguments, stdin=b"user 7\nsues us\n")
    assert (done.code, done.err) == (0, "")
    assert "user 7" not in done.out
    assert read(config, "SELECT user_ref, reason FROM hold") == [("user 7", "sues us")]


NO_NAME = "should be a text of up to 2 KiB, not empty and without a NUL"


@for_each("stdin", [b"\n", b"hush \xff\n", b"hush\0\n", b"hush" * 2000])
def test_a_line_that_is_no_name_is_never_quoted(config: Path, stdin: bytes) -> None:
    done = run("person", "hold", "--user-ref", "-", "--config", config, stdin=stdin)
    assert (done.code, done.out, "hush" in done.err) == (2, "", False)
    assert NO_NAME in " ".join(done.err.split())


@for_each(
    ("arguments", "words"),
    [
        (["person", "hold"], "Say who or what"),
        (["person", "hold", "--user-ref", "u", "--reference", "r"], "by one option"),
        (["person", "hold", "--user-ref", "u", "--until", "2001-01-31"], "is past"),
        (["person", "hold", "--user-ref", "u", "--until", "soon"], "neither a date"),
        (["person", "release"], "Missing argument"),
        (["person", "release", "x"], "not a number"),
        (["person", "hold", "--user-ref", ""], NO_NAME),
        (["person", "hold", "--user-ref", "u", "--reason", ""], NO_NAME),
    ],
)
def test_what_says_nothing_clear_is_refused(config: Path, arguments: list[str], words: str) -> None:
    done = run(*arguments, "--config", config)
    assert (done.code, done.out) == (2, "")
    assert words in " ".join(done.err.split())
    assert read(config, "SELECT count(*) FROM hold") == [(0,)]


def test_what_is_on_record_of_it_names_nobody(config: Path) -> None:
    done = run("person", "hold", "--user-ref", "hush-user", "--config", config)
    assert (done.code, "hush-user" in done.out) == (0, False)
    assert run("person", "release", 1, "--config", config).code == 0
    recorded = read(config, "SELECT action, note FROM operator_action ORDER BY id DESC LIMIT 2")
    assert [action for action, _ in recorded] == ["end-hold", "hold"]
    assert "hush-user" not in json.dumps(recorded)
