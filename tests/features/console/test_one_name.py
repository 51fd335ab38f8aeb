"""One name for one thing: what JSON and SQL call it, and the word for it above a column of a
command or a page. Who adds a name or renames one does it here first."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from premblyd.cli import COMMANDS, main
from tests.support.commands import json_of, recorded_in, run
from tests.support.console import Browser
from tests.support.database import rows
from tests.support.rows import for_each

pytestmark = pytest.mark.process

# Each name, and the word for people where that is not the name without `_`, `_id`, `_at_ms` and
# `_ms`. In commands a time has "(UTC)" behind it, on the console a word begins with a capital.
WORDS = {
    "at_ms": "when",
    "seen_at_ms": "last seen",
    "read_at_ms": "compared",
    "response_code": "code",
    "duplicate_count": "duplicates",
    "attempt_count": "attempts",
    "ask_count": "asked",
    "last_error": "error",
    "remote_ip": "from",
    "body_bytes": "bytes",
    "body_digest": "digest",
    "actor": "who",
    "success_rate": "succeeded",
    "removed": "class",
    "settled_by_id": "settled by",
    "name": "host",  # of a host
}
# The console names a row's own number by what the row is, and what a person did by a verb.
OF_PAGES = {"/events": {"event": "id"}, "/deliveries": {"delivery": "id"}}
OF_PAGES |= {"/dead": OF_PAGES["/deliveries"], "/operators": {"did": "action"}}
# Each use of a command that prints JSON: a list's is an array of rows, every other's an object.
ROWS = (
    *("events", "deliveries", "unsettled", "rejections", "hosts", "sql SELECT/1/AS/id"),
    *("person hold --list", "console --sessions"),
)
OBJECTS = (
    *("status", "stats", "check", "show 1", "explain BODY", "try archive BODY", "pause archive"),
    *("resume archive", "replay --dead --dry-run", "replay 1"),
    *("cancel --dead --yes", "unsettled --dismiss all", "person hold --user-ref U"),
    *("person release 1", "person erase --event 1 --dry-run", "record prune"),
    *("person erase --event 1 --yes", "person export --user-ref P --to ZIP"),
    *("record prune --dry-run", "record vacuum", "rehearse CONFIG"),
    *("reconcile LIST", "console --end all"),
)
USER = "SELECT user_ref FROM event WHERE user_ref IS NOT NULL ORDER BY id LIMIT 1"
# Of a file: tests/features/postgresql/test_moving.py, tests/features/backup.
MOVES = {"record move", "record backup", "record restore", "record encrypt"}


def word(name: str) -> str:
    return WORDS.get(name) or re.sub("(_at)?_ms$|_id$", "", name).replace("_", " ")


def names_in(value: Any) -> Iterator[str]:
    """Yield the names of all that a JSON value has."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from names_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from names_in(inner)


def used(config: Path, use: str) -> Any:
    """Return what a use of a command prints as JSON."""
    folder = config.parent
    (folder / "body.json").write_text('{"response_code": "00"}')
    (folder / "list").write_text("00000000-0000-4000-8000-0000000a001f\n")
    places = {"BODY": folder / "body.json", "LIST": folder / "list", "CONFIG": config}
    ((user_ref,),) = rows(recorded_in(config), USER)
    places |= {"ZIP": folder / "person.zip", "P": user_ref}
    words = [places.get(each, each.replace("/", " ")) for each in use.split()]
    before = {"resume": ["pause", "archive"], "person": ["person", "hold", "--user-ref", "U"]}
    if use.startswith(("resume", "person release")):
        assert run(*before[use.split(maxsplit=1)[0]], "--config", config).code == 0
    done = run(*words, "--json", "--config", config)
    assert done.code in (0, 1, 2, 3), done
    return json.loads(done.out)


@for_each("use", [*ROWS, *OBJECTS])
def test_json_is_an_array_of_rows_for_a_list_and_an_object_for_all_else(
    config: Path, use: str
) -> None:
    printed = used(config, use)
    assert isinstance(printed, list) is (use in ROWS)
    assert not isinstance(printed, list) or all(isinstance(row, dict) for row in printed)


def test_each_command_that_prints_json_is_held() -> None:
    def has_json(name: str) -> bool:
        command: click.Command | None = main
        for part in name.split():
            assert isinstance(command, click.Group)
            command = command.get_command(click.Context(command), part)
        return any("--json" in option.opts for option in command.params) if command else False

    uses = [*ROWS, *OBJECTS]
    held = {name for name in COMMANDS if any(f"{use} ".startswith(f"{name} ") for use in uses)}
    assert {name for name in COMMANDS if has_json(name)} == held | MOVES


@for_each("command", ["events", "deliveries", "unsettled", "rejections"])
def test_each_head_of_a_list_is_the_word_for_a_name_in_its_json(config: Path, command: str) -> None:
    heads = re.split(" {2,}", run(command, "--config", config).out.splitlines()[0].strip())
    names = json_of(config, command)[0]
    assert {head.removesuffix(" (UTC)") for head in heads} <= {word(name) for name in names}


def heads_of(page: str) -> set[str]:
    """Return the heads of a page's tables, without those of charts."""
    tables = re.findall(r'<table class="rows">(.*?)</thead>', page, re.DOTALL)
    return {head for table in tables for head in re.findall('<th scope="col"[^>]*>([^<]+)<', table)}


@for_each("path", ["/events", "/deliveries", "/dead", "/rejections", "/operators", "/"])
def test_each_head_of_a_page_is_the_word_for_a_name_in_its_json(own: Browser, path: str) -> None:
    answered = own.get(f"{path if path != '/' else '/overview'}.json").json
    names = set(names_in(answered))
    heads = heads_of(own.get(path).text)
    assert heads
    for head in heads:
        for each in head.lower().split(" or "):
            assert OF_PAGES.get(path, {}).get(each, each) in {*map(word, names), "id"}, head
