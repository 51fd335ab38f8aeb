"""`premblyd pause` and `resume`, and where it is told that an action is paused."""

import json
from pathlib import Path
from typing import Any

from tests.support.commands import Ran, read, run
from tests.support.rows import for_each

DONE = "SELECT action, note FROM operator_action WHERE action IN ('pause', 'resume') ORDER BY id"
PAUSED = "SELECT action, until_ms IS NOT NULL, reason FROM pause ORDER BY action"


def told(config: Path, *arguments: object) -> Any:
    """Return what a command prints with --json, whatever its exit status."""
    return json.loads(run(*arguments, "--json", "--config", config).out)


def test_an_action_is_paused_and_resumed_and_it_is_on_record_with_the_reason(config: Path) -> None:
    done = run("pause", "archive", "--reason", " the disk\nis full ", "--config", config)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("archive has been paused since 20")
    assert " UTC: the disk is full.\n" in done.out
    assert done.out.endswith("; 0 running. `premblyd resume archive` starts it again.\n")
    again = told(config, "pause", "archive", "--until", "2h")
    assert again.keys() == {"paused", "waiting", "running"}
    assert again["paused"]["until_ms"] > again["paused"]["since_ms"] + 7_000_000
    assert read(config, PAUSED) == [("archive", 1, None)]
    assert told(config, "resume", "archive") == {"resumed": "archive", "waiting": 0}
    done = run("resume", "archive", "--config", config)
    assert done == Ran(1, "", "archive is not paused: `premblyd status` lists what is.\n")
    notes = read(config, DONE)
    assert notes[0] == ("pause", "archive: the disk is full")
    assert notes[1][1].startswith("archive until 20")
    assert notes[2] == ("resume", "archive")


@for_each(
    ("arguments", "code", "message"),
    [
        (["archiv"], 1, "There is no action archiv; the configuration has activate-customer, arc"),
        (["archive", "--reason", "x" * 201], 1, "A reason has at most 200 characters, and should"),
        (["archive", "--until", "2020-01-01"], 1, "is in the past: a pause must end later"),
        (["archive", "--until", "soon"], 2, "'soon' is neither a time such as 2026-01-31T06:00"),
    ],
)
def test_mistakes_pause_nothing(
    config: Path, arguments: list[str], code: int, message: str
) -> None:
    done = run("pause", *arguments, "--config", config)
    assert (done.code, done.out) == (code, "")
    assert message in " ".join(done.err.split())
    assert read(config, PAUSED) == []


def test_status_and_stats_say_what_is_paused(config: Path) -> None:
    assert told(config, "status")["paused"] == []
    run("pause", "archive", "--until", "2h", "--reason", "moved", "--config", config)
    [paused] = told(config, "status")["paused"]
    assert (paused["action"], paused["reason"], paused["waiting"]) == ("archive", "moved", 0)
    text = " ".join(run("status", "--config", config).out.split())
    assert "archive (0 deliveries waiting) has been paused since 20" in text
    pauses = {each["action"]: each["pause"] for each in told(config, "stats")["actions"]}
    assert {action for action, pause in pauses.items() if pause} == {"archive"}


def test_a_pause_needs_no_more_of_the_configuration_than_its_database(config: Path) -> None:
    config.write_text(config.read_text().replace('"endpoints"', '"endpionts"'))
    assert told(config, "pause", "archive")["paused"]["action"] == "archive"
