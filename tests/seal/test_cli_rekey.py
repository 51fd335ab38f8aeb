"""premblyd rekey, and what other commands show of what is sealed."""

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from premblyd.engines.connections import backend, connect_read_only
from premblyd.record import events
from premblyd.vault import DataKey
from tests.support.commands import Ran, run
from tests.support.database import rows
from tests.support.rows import for_each
from tests.support.sealing import KEY, OTHER_KEY
from tests.support.store import Store, store_at

CONFIG = """
database: sqlite:///premblyd.db
endpoints: [{name: prembly, path: /prembly, keys: {live: k}}]
"""
FIRST, SECOND = DataKey.read(KEY).id, DataKey.read(OTHER_KEY).id


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The configuration of a record that has an event in clear, and two data keys beside it."""
    place = tmp_path / "premblyd.db"
    backend(place).prepare()
    with store_at(place) as store:
        add(store)
    for name, key in (("first", KEY), ("second", OTHER_KEY)):
        (tmp_path / name).write_text(key)
        (tmp_path / name).chmod(0o600)
    path = tmp_path / "premblyd.yaml"
    path.write_text(CONFIG)
    return path


def add(store: Store) -> None:
    store.add("crm", body=b'{"name": "hush-body"}', detail="the record was not found")


def encrypt(config: Path, encryption: str) -> None:
    config.write_text(f"{CONFIG}encryption: {encryption}\n")


def told(config: Path, *arguments: str) -> Any:
    done = run(*arguments, "--json", "--config", config)
    assert done.code == 0, done.err
    return json.loads(done.out)


def show(config: Path, *more: str) -> Ran:
    return run("show", "1", *more, "--config", config)


def test_what_was_in_clear_is_in_no_file_any_more(config: Path) -> None:
    encrypt(config, "{key: {file: first}}")
    assert told(config, "rekey", "--dry-run")["in_clear"] == 1
    with closing(connect_read_only(config.parent / "premblyd.db")) as daemon:
        assert events.last_event_id(daemon) == 1  # else who closes the file last empties the log
        found = told(config, "rekey")
        files = b"".join(file.read_bytes() for file in config.parent.glob("premblyd.db*"))
    assert b"hush" not in files
    assert found == {
        "sealed": 1,
        "wrapped": 0,
        "in_clear": 0,
        "data_key": FIRST,
        "by_data_key": {FIRST: 1},
        "lacking": [],
        "idle": [],
        "damaged": [],
    }
    assert "hush-body" in show(config, "--reveal").out


def test_a_data_key_is_rotated(config: Path) -> None:
    encrypt(config, "{key: {file: first}}")
    told(config, "rekey")
    encrypt(config, "{key: {file: second}, old_keys: [{file: first}]}")
    assert told(config, "rekey", "--dry-run")["by_data_key"] == {FIRST: 1}
    done = run("rekey", "--config", config)
    assert done.code == 0
    assert f"Sealed 0 events; wrapped 1 key by data key {SECOND}." in done.out
    assert f"Data key {FIRST} is not needed" in done.out
    assert "Copies that were made before need it, but those by `premblyd backup`." in done.out
    encrypt(config, "{key: {file: second}}")
    assert "hush-body" in show(config, "--reveal").out


def test_prune_without_the_data_key_says_which_it_needs(config: Path) -> None:
    encrypt(config, "{key: {file: first}}")
    told(config, "rekey")
    assert run("cancel", "--delivery", 1, "--config", config).code == 0
    config.write_text(f"{CONFIG}retention: {{media: 1h}}\n")
    done = run("prune", "--yes", "--config", config)
    assert (done.code, done.out) == (1, "")
    assert f"is sealed by the data key {FIRST}, which `encryption` does not name" in done.err


def test_without_its_data_key_what_is_sealed_is_shown_as_sealed(config: Path) -> None:
    encrypt(config, "{key: {file: first}}")
    told(config, "rekey")
    config.write_text(CONFIG)
    done = show(config)
    assert done.code == 0
    assert "detail               sealed" in done.out
    assert "this user may not read the data key, or `encryption` does not name it" in done.out
    assert "hush" not in done.out
    assert (found := told(config, "show", "1"))["body"] is None
    assert {"body", "detail", "token"} <= set(found["sealed"])
    [event] = told(config, "events")
    assert (event["detail"], event["sealed"]) == (None, ["detail"])
    export = ("export", "--since", "2000-01-01", "--format", "csv", "--reveal", "--to", "-")
    for refused in (show(config, "--reveal"), run(*export, "--config", config)):
        assert (refused.code, refused.out) == (1, "")
        assert "data key" in refused.err
    recorded = rows(config.parent / "premblyd.db", "SELECT action FROM operator_action")
    assert recorded == [("rekey",)]  # what was refused is on no record


@for_each(
    "arguments",
    [
        ["erase", "--user-ref", "user-1", "--yes"],
        ["hold", "--reference", "ref-1"],
        ["export", "--user-ref", "user-1", "--to", "{folder}/person.zip"],
    ],
)
def test_who_has_lost_the_data_key_can_not_erase_hold_or_export_a_person(
    config: Path, arguments: list[str]
) -> None:
    """As docs/personal-data.md says: the key of the digests is sealed by it."""
    encrypt(config, "{key: {file: first}}")
    told(config, "rekey")
    encrypt(config, "{key: {file: second}}")
    given = [each.format(folder=config.parent) for each in arguments]
    done = run(*given, "--config", config)
    assert (done.code, done.out) == (1, "")
    assert f"data key {FIRST}" in done.err


def test_without_encryption_there_is_nothing_to_do(config: Path) -> None:
    done = run("rekey", "--config", config)
    assert done.code == 78
    assert "Nothing was sealed: " in done.err
    assert "sealed" not in told(config, "show", "1")


@pytest.fixture
def unsealing(config: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration with encryption, where its library is not installed."""
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    encrypt(config, "{key: {file: first}}")
    return config


@for_each("arguments", [["rekey"], ["rekey", "--dry-run", "--json"], ["check"]])
def test_without_its_library_it_is_said_what_to_install(
    unsealing: Path, arguments: list[str]
) -> None:
    done = run(*arguments, "--config", unsealing)
    assert (done.code, done.out) == (78, "")
    assert "install.sh --with seal" in done.err


def test_check_prints_json_of_a_library_that_is_missing(unsealing: Path) -> None:
    done = run("check", "--json", "--config", unsealing)
    assert (done.code, done.err) == (78, "")
    found = json.loads(done.out)
    assert found["ok"] is False
    [problem] = found["problems"]
    assert (problem["file"], problem["line"]) == (str(unsealing), 4)
    assert "install.sh --with seal" in problem["message"]


def test_check_says_what_rekey_would_do(config: Path) -> None:
    def warnings() -> str:
        return "\n".join(json.loads(run("check", "--json", "--config", config).out)["warnings"])

    assert "premblyd rekey" not in warnings()
    encrypt(config, "{key: {file: first}}")
    assert "in clear" in warnings()
    told(config, "rekey")
    assert "premblyd rekey" not in warnings()
    encrypt(config, "{key: {file: second}, old_keys: [{file: first}]}")
    assert f"wrapped by the data key {FIRST} still" in warnings()
    encrypt(config, "{key: {file: second}}")
    assert f"sealed by the data key {FIRST}, which `encryption` does not name" in warnings()
    assert "premblyd rekey" not in warnings()
