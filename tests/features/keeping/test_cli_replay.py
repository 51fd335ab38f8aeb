"""A replay of what was erased or removed."""

import json
from pathlib import Path
from typing import Any

from premblyd.queue.queue import BODY_GONE, ERASED
from tests.support.commands import (
    ACTIONS,
    json_of,
    read,
    recorded_in,
    run,
)
from tests.support.configuration import configuration, shell
from tests.support.database import by_hand, url_of

DELIVERIES = "SELECT id, event_id, action, state, due_at_ms, attempts_left FROM delivery"


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


def lack(config: Path, event_id: int, removed_parts: str) -> None:
    change = "UPDATE event SET removed_parts = ? WHERE id = ?"
    by_hand(recorded_in(config), change, removed_parts, event_id)


def test_what_was_erased_is_left_alone_and_counted(config: Path) -> None:
    (erased,) = read(config, "SELECT event_id FROM delivery WHERE state = 'dead' ORDER BY id")[0]
    lack(config, erased, "erased")
    before = read(config, f"{DELIVERIES} WHERE event_id = ? ORDER BY id", erased)
    whole = replay(config, "--dead", "--dry-run")
    assert whole["left_alone"] == {ERASED: 1}
    assert erased not in {each["event_id"] for each in whole["would_queue"]}
    assert replay(config, "--dead")["left_alone"] == {ERASED: 1}
    done = run("replay", erased, "--config", config)
    count = len(before)
    assert (done.code, done.err) == (1, "")
    assert done.out.splitlines() == [
        "Queued 0 deliveries.",
        f"Left alone: {count}, because {ERASED}.",
    ]
    with_actions(config, NEW)
    new = replay(config, "--since", "1h", "--action", "greet", "--new", "--dry-run")
    assert new["left_alone"].get(ERASED) == 1
    assert read(config, f"{DELIVERIES} WHERE event_id = ? ORDER BY id", erased) == before


def test_a_hook_that_gets_a_removed_body_is_left_alone_and_counted(config: Path) -> None:
    """One that is told chosen fields alone runs all the same."""
    ((number, event),) = read(
        config, "SELECT id, event_id FROM delivery WHERE action = 'archive' ORDER BY id LIMIT 1"
    )
    lack(config, event, "body")
    done = run("replay", "--delivery", number, "--config", config)
    assert (done.code, done.err) == (1, "")
    assert f"Left alone: 1, because {BODY_GONE}." in done.out
    url = {"url": "http://localhost/", "send": {"select": "{code: response_code}"}}
    own = [each for each in ACTIONS if each["name"] != "archive"]
    select = {"name": "archive", "response_codes": ["00"], "http": url}
    _configure(config, actions=[*own, select, {**NEW, "when": "body.response_code == '00'"}])
    assert replay(config, "--delivery", number)["queued"] == 1
    done = run("replay", event, "--action", "greet", "--new", "--json", "--config", config)
    assert (done.code, json.loads(done.out)["left_alone"]) == (1, {BODY_GONE: 1})
