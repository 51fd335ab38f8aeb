"""Lists on a terminal and in a pipe, and of another database."""

import json
import shutil
from pathlib import Path

import pytest

from tests.support.commands import Ran, json_of, on_terminal, recorded_in, run
from tests.support.database import by_hand
from tests.support.rows import for_each

ASKING = {"prembly": {"api_key": "live_sk_1"}, "pending": {"ask": ["1m"], "give_up": "1d"}}
LONG_REFERENCE = "00000000-0000-4000-8000-00000000000000000000-of-a-long-kind"
LONG_ERROR = "the TLS certificate is not trusted: unable to get local issuer certificate at depth 2"


def change(config: Path, sql: str, *values: object) -> None:
    by_hand(recorded_in(config), sql, *values, unchecked=True)


def test_what_is_doubted_is_listed_with_the_reason(config: Path) -> None:
    change(config, "UPDATE event SET outcome = 'unknown', doubt = 'code,face' WHERE id = 3")
    rows = {row["id"]: row["doubt"] for row in json_of(config, "events", "--doubted")}
    assert rows[3] == "code,face"
    assert all(rows.values())
    assert "unknown (code,face)" in run("events", "--doubted", "--config", config).out
    assert "doubt " in run("show", "3", "--config", config).out
    change(config, "UPDATE event SET outcome = 'unknown', doubt = '' WHERE id = 3")
    assert "doubt " not in run("show", "3", "--config", config).out, "it was looked for"


@pytest.mark.process
def test_a_list_fits_a_terminal_and_has_all_of_each_cell(config: Path) -> None:
    change(config, "UPDATE event SET reference = ?", LONG_REFERENCE)
    lines = on_terminal(80, "events", "--limit", 1, "--config", config)
    assert max(map(len, lines)) <= 80
    words = "".join("".join(lines).split())
    assert all(piece in words for piece in LONG_REFERENCE.split("-"))


@for_each("name", ["events", "deliveries"])
def test_a_pipe_gets_every_column_whole(config: Path, name: str) -> None:
    change(config, "UPDATE event SET reference = ?", LONG_REFERENCE)
    change(config, "UPDATE delivery SET last_error = ?", LONG_ERROR * 9)
    done = run(name, "--config", config)
    assert len(done.out.splitlines()) == 1 + len(json_of(config, name))
    assert (LONG_REFERENCE in done.out) == (name != "deliveries")
    assert (LONG_ERROR * 9 in done.out) == (name == "deliveries")


def test_events_and_deliveries_are_found_by_a_type_or_a_pattern(config: Path) -> None:
    def types(*arguments: object) -> set[str]:
        return {row["type"] for row in json_of(config, *arguments)}

    assert types("events", "--type", "transaction.ESCALATED") == {"transaction.escalated"}
    found = types("deliveries", "--type", "verification.*", "--action", "activate-customer")
    assert found == {"verification.async", "verification.direct", "verification.retried"}
    assert run("events", "--type", "workflow.[p]*", "--config", config).code == 2


def test_deliveries_are_found_by_event_and_since(config: Path) -> None:
    (event,) = json_of(config, "events", "--reference", "sample-sdk-0001")
    every = json_of(config, "deliveries", "--limit", 1000)
    own = [one for one in every if one["event_id"] == event["id"]]
    assert len(own) == 2
    for name in (event["id"], event["key"]):
        assert json_of(config, "deliveries", "--event", name) == own
    change(config, "UPDATE event SET received_at_ms = 0 WHERE id <> ?", event["id"])
    assert json_of(config, "deliveries", "--since", "1h") == own
    missing = run("deliveries", "--event", "9999", "--config", config)
    assert missing == Ran(1, "", "There is no event 9999. `premblyd events` lists them.\n")


def test_rejections_are_listed_and_filtered(config: Path) -> None:
    new = "(4200000000000, '', '192.0.2.9', 'too large')"
    change(config, f"INSERT INTO rejection (at_ms, endpoint, remote_ip, reason) VALUES {new}")
    newest, oldest = json_of(config, "rejections")
    assert (newest["reason"], newest["remote_ip"]) == ("too large", "192.0.2.9")
    assert (oldest["reason"], oldest["remote_ip"]) == ("wrong signature", "127.0.0.1")
    for options, found in (
        (["--reason", "too large"], [newest]),
        (["--ip", "127.0.0.1"], [oldest]),
        (["--since", "1h"], [newest, oldest]),
        (["--since", "2100-01-01"], [newest]),
        (["--limit", "1"], [newest]),
    ):
        assert json_of(config, "rejections", *options) == found


READERS = [["events"], ["deliveries"], ["unsettled"], ["rejections"], ["show", "1"]]


@pytest.mark.sqlite
def test_a_file_that_is_no_database_is_told_in_words(tmp_path: Path) -> None:
    file = tmp_path / "premblyd.yaml"
    file.write_text("listen: 127.0.0.1:8080\n")
    done = run("events", "--database", file)
    assert (done.code, done.out) == (78, "")
    assert done.err.startswith(f"{file} is encrypted, or is no SQLite database. ")


@pytest.mark.sqlite
def test_another_database_is_read_without_a_configuration(config: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(config.with_name("premblyd.db"), tmp_path / "copy.db"))
    config.write_text(json.dumps(json.loads(config.read_text()) | ASKING))
    expected = [run(*arguments, "--config", config) for arguments in READERS]
    config.unlink()
    for name in (copy, f"sqlite:///{copy}"):
        for arguments, done in zip(READERS, expected, strict=True):
            assert run(*arguments, "--database", name, "--config", config) == done
    missing = run("events", "--database", tmp_path / "no.db")
    assert (missing.code, missing.out) == (1, "")
    assert f"There is no database at {tmp_path}/no.db" in missing.err


@pytest.mark.sqlite
def test_a_look_that_can_not_be_recorded_shows_nothing(config: Path) -> None:
    change(config, "CREATE TRIGGER no BEFORE INSERT ON operator_action BEGIN SELECT abs(1, 2); END")
    masked = run("show", 1, "--config", config)
    assert (masked.code, masked.err) == (0, "")
    done = run("show", 1, "--reveal", "--config", config)
    assert (done.code, done.out) == (75, "")
    assert "Nothing is shown, because your access could not be recorded." in done.err
