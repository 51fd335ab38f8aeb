"""What people see of an event that lacks something."""

import json
from pathlib import Path

from tests.support.commands import recorded_in, run
from tests.support.database import by_hand, removal


def out(*arguments: object) -> str:
    done = run(*arguments)
    assert (done.code, done.err) == (0, "")
    return done.out


def test_an_event_that_lacks_something_says_so_and_shows_no_body(config: Path) -> None:
    assert "  body\n" in out("show", 1, "--config", config)
    for removed_parts, words in (
        ("body", "Its body and headers, and what hooks printed"),
        ("identity", "deleted when its retention period"),
        ("erased", "All personal data in it was erased."),
    ):
        by_hand(recorded_in(config), removal(removed_parts))
        shown = out("show", 1, "--reveal", "--config", config)
        assert words in shown
        assert "\n  body\n" not in shown
        assert json.loads(out("show", 1, "--reveal", "--json", "--config", config))["body"] is None


def test_a_question_about_an_erased_person_does_not_say_it_was_for_a_session(config: Path) -> None:
    question = "INSERT INTO inquiry (at_ms, purpose, event_id, result, duration_ms)"
    by_hand(recorded_in(config), f"{question} VALUES (1, 'confirm', 1, 'confirmed', 5)")
    assert "confirm, its session: confirmed" in out("show", 1, "--config", config)
    by_hand(recorded_in(config), removal("erased"))
    assert "confirm, a deleted name: confirmed" in out("show", 1, "--config", config)
