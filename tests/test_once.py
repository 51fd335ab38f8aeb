"""Webhooks that come again, against a whole daemon: what runs, and what people are told."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from premblyd.run.invocation import NOT_STORED
from tests.support.commands import Ran, run
from tests.support.configuration import shell
from tests.support.daemon import Premblyd
from tests.support.webhooks import BODY

pytestmark = pytest.mark.process

UNFINISHED = "SELECT count(*) FROM delivery WHERE state IN ('pending', 'running')"


def activate(effects: Path, **more: Any) -> dict[str, Any]:
    """Return an action that notes each of its effects in a file, under the key that it gets."""
    script = f'echo "$PREMBLY_ONCE_KEY $PREMBLY_DELIVERY" >> {effects}'
    return shell("activate", script, "00", when="outcome == 'verified'", **more)


@pytest.fixture
def effects(tmp_path: Path) -> Path:
    return tmp_path / "effects"


@pytest.fixture
def daemon(tmp_path: Path, effects: Path) -> Iterator[Premblyd]:
    action = activate(effects, once="reference")
    with Premblyd(tmp_path, actions=[action, shell("all", "true")]) as daemon:
        yield daemon.start()


@pytest.fixture
def skipped(daemon: Premblyd) -> Premblyd:
    """A daemon whose second delivery of `activate` (number 3, of event 2) was skipped."""
    for body in (BODY, BODY + b" "):
        daemon.send(body)
        daemon.wait_for_rows([(0,)], UNFINISHED)
    return daemon


@pytest.mark.promise
def test_lists_and_show_say_what_ran_instead(skipped: Premblyd) -> None:
    config = ["--config", skipped.config]
    listed = run("deliveries", "--state", "skipped", *config).out
    assert "delivery 1 (event 1) ran instead" in listed
    [row] = json.loads(run("deliveries", "--state", "skipped", "--json", *config).out)
    assert (row["id"], row["event_id"]) == (3, 2)
    assert (row["ran_instead_id"], row["ran_instead_event_id"]) == (1, 1)
    shown = run("show", "2", *config).out
    assert (
        "Delivery 3: activate skipped after 0 attempts\n  delivery 1 (event 1) ran instead\n"
    ) in shown


def test_a_replay_says_what_will_be_skipped_again(skipped: Premblyd, effects: Path) -> None:
    words = (
        "Delivery 3 will be skipped again: delivery 1 has succeeded for the same reference and"
        " outcome. To run that one again: premblyd replay --delivery 1\n"
    )
    config = ["--config", skipped.config]
    dry = run("replay", "--delivery", 3, "--dry-run", *config).out
    assert dry.startswith(f"Would queue 1 delivery.\n{words}")
    assert run("replay", 2, *config) == Ran(0, f"Queued 2 deliveries.\n{words}", "")
    skipped.wait_for_rows([(0,)], UNFINISHED)
    assert skipped.rows("SELECT state, ran_instead_id FROM delivery WHERE id = 3") == [
        ("skipped", 1)
    ]
    assert len(effects.read_text().splitlines()) == 1
    told = json.loads(run("replay", "--delivery", 3, "--json", *config).out)
    assert told["skipped_again"] == [{"id": 3, "ran_instead_id": 1}]
    skipped.wait_for_rows([(0,)], UNFINISHED)
    done = run("replay", "--action", "activate", "--since", "1h", *config)
    assert done.out == "Queued 2 deliveries.\n", "one of them runs again"
    skipped.wait_for_rows([(0,)], UNFINISHED)
    assert len(effects.read_text().splitlines()) == 2


def test_check_and_explain_say_what_runs_once(skipped: Premblyd) -> None:
    config = ["--config", skipped.config]
    assert "\nOnce for each reference and outcome: activate.\n" in run("check", *config).out
    explained = run("explain", "-", *config, stdin=BODY).out
    note = "skipped if it has succeeded for another event of this reference and outcome"
    assert f"  once: {note}\n" in explained
    assert f"  PREMBLY_ONCE_KEY={NOT_STORED}\n" in explained
    thin = b'{"response_code": "00", "verification": {"status": "VERIFIED"}}'
    explained = run("explain", "-", *config, stdin=thin).out
    assert "  once: runs each time: this event has no reference\n" in explained
