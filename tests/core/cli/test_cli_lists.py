"""Lists on a terminal and in a pipe, and while the configuration is broken."""

import json
import shutil
from pathlib import Path

import pytest

from tests.support.commands import Ran, json_of, on_terminal, recorded_in, run
from tests.support.database import by_hand, url_of
from tests.support.rows import for_each

ASKING = {"prembly": {"api_key": "live_sk_1"}, "pending": {"ask": ["1m"], "give_up": "1d"}}
LONG_REFERENCE = "00000000-0000-4000-8000-00000000000000000000-of-a-long-kind"
LONG_ERROR = "the TLS certificate is not trusted: unable to get local issuer certificate at depth 2"
BROKEN = {
    "a typing mistake": "database: sqlite:///premblyd.db\nendpiont: []\n",
    "no YAML": "endpoints:\n  - {name: a\ndatabase: sqlite:///premblyd.db\nactions: [\n",
}


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
def test_a_list_says_what_it_leaves_out_and_shortens(config: Path) -> None:
    change(config, "UPDATE event SET reference = ?, duplicate_count = 0", LONG_REFERENCE)
    lines = on_terminal(80, "events", "--config", config)
    assert max(map(len, lines)) <= 80
    assert "…" in lines[1]
    assert " ".join(" ".join(lines[-2:]).split()) == (
        "Empty: duplicates. Left out: type, user ref, kind, endpoint."
        " Shortened: reference. --wide shows all."
    )
    wide = on_terminal(400, "events", "--wide", "--config", config)
    assert LONG_REFERENCE in wide[1]
    assert {"endpoint", "duplicates"} <= set(wide[0].split())
    assert "--wide" not in wide[-1]


@for_each("name", ["events", "deliveries", "unsettled"])
def test_a_pipe_gets_every_column_whole(config: Path, name: str) -> None:
    change(config, "UPDATE event SET reference = ?", LONG_REFERENCE)
    change(config, "UPDATE awaited SET reference = ?", LONG_REFERENCE)
    change(config, "UPDATE delivery SET last_error = ?", LONG_ERROR * 9)
    done = run(name, "--config", config)
    assert done == run(name, "--wide", "--config", config)
    assert len(done.out.splitlines()) == 1 + len(json_of(config, name))
    assert LONG_REFERENCE in done.out
    assert (LONG_ERROR * 9 in done.out) == (name == "deliveries")


def test_a_filter_that_nobody_knows_is_said_beside_the_empty_list(config: Path) -> None:
    neither = "Neither the configuration nor the database has an action archiv; did you mean"
    for arguments, words in (
        (["deliveries", "--action", "archiv"], f"{neither} archive?"),
        (["events", "--type", "transaction.proccessed"], "; did you mean transaction.processed?"),
        (["deliveries", "--type", "workflow"], "; did you mean workflow.*?"),
        (["events", "--code", "o7"], "and Prembly documents none; did you mean 07?"),
        (["events", "--code", "zz"], "; there are 00, 01, 02, 03, 07, missing."),
        (["rejections", "--reason", "\x07bell"], "; there are address not allowed, body too larg"),
    ):
        done = run(*arguments, "--config", config)
        assert (done.code, done.out) == (0, f"No {arguments[0]}.\n")
        assert done.err.startswith("note: ")
        assert words in done.err
        assert done.err.rstrip("\n").isprintable()
        as_json = run(*arguments, "--json", "--config", config)
        assert (as_json.out, as_json.err) == ("[]\n", done.err)


def test_times_between_which_nothing_can_be_are_said(config: Path) -> None:
    words = "note: --since is not before --until: nothing can be in between.\n"
    for times in (["--since", "1h", "--until", "2h"], ["--since", "7d", "--until", "2026-01-01"]):
        assert run("events", *times, "--config", config) == Ran(0, "No events.\n", words)
    assert run("events", "--since", "2d", "--until", "1d", "--config", config).err == ""


def test_of_a_filter_that_is_known_an_empty_list_says_no_more(config: Path) -> None:
    change(config, "UPDATE event SET type = 'house.sold', response_code = '99' WHERE id = 1")
    change(config, "UPDATE rejection SET reason = 'an older reason'")
    for command, option, value in (
        ("deliveries", "--action", "archive"),
        ("events", "--type", "watchlist.identity_flagged"),
        ("events", "--type", "house.sold"),
        ("events", "--code", "99"),
        ("rejections", "--reason", "an older reason"),
    ):
        done = run(command, option, value, "--since", "2099-01-01", "--config", config)
        assert done == Ran(0, f"No {command}.\n", "")


def test_a_clock_that_is_wrong_by_a_year_is_said(config: Path) -> None:
    a_year_on = "UPDATE event SET received_at_ms = received_at_ms + 31622400000 WHERE id = 3"
    assert "an event was received at" not in run("check", "--config", config).err
    change(config, a_year_on)
    said = run("check", "--config", config).err
    assert "an event was received at " in said
    assert "UTC: it is wrong now, or was then. `timedatectl` shows the time" in said
    status = json.loads(run("status", "--json", "--config", config).out)
    assert "clock" in {item["kind"] for item in status["attention"]}


def test_events_are_found_by_the_beginning_of_a_key(config: Path) -> None:
    key = json_of(config, "events", "--limit", 1)[0]["key"]
    for part in (key, key[:12], key[:12].upper()):
        assert [one["key"] for one in json_of(config, "events", "--key", part)] == [key]
    for wrong in ("", "xyz", key + "0", "%"):
        done = run("events", "--key", wrong, "--config", config)
        assert done.code == 2
        assert "is not a key: 32 hex digits, or the first of them" in done.err


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


def test_what_is_pending_is_listed_and_filtered(config: Path) -> None:
    newest, *_ = rows = json_of(config, "unsettled")
    row = rows[-1]
    assert newest["id"] > row["id"]
    event = json_of(config, "show", row["event_id"])
    assert (event["outcome"], event["reference"]) == ("pending", row["reference"])
    assert event["awaited"] == [row]
    for options, found in (
        (["--state", "waiting"], rows),
        (["--state", "given_up"], []),
        (["--reference", row["reference"]], [row]),
        (["--limit", "1"], [newest]),
        (["--since", "2100-01-01"], []),
    ):
        assert json_of(config, "unsettled", *options) == found


READERS = [["events"], ["deliveries"], ["unsettled"], ["rejections"], ["show", "1"]]


@pytest.mark.parametrize("text", BROKEN.values())
def test_reading_needs_only_the_database_of_a_broken_configuration(config: Path, text: str) -> None:
    before = [run(*arguments, "--config", config).out for arguments in READERS]
    config.write_text(text.replace("sqlite:///premblyd.db", url_of(recorded_in(config))))
    for arguments, out in zip(READERS, before, strict=True):
        done = run(*arguments, "--config", config)
        assert (done.code, done.out) == (0, out)
        assert done.err.startswith(f"note: {config} has ")
        assert done.err.endswith("`premblyd check` lists them.\n")
    assert run("check", "--config", config).code == 78


def test_a_database_that_is_not_named_is_a_problem_of_the_configuration(config: Path) -> None:
    for text in ("endpoints: []\n", "database: mysql://db\n", "database: [\n"):
        config.write_text(text)
        done = run("events", "--config", config)
        assert (done.code, done.out, done.err.startswith(f"{config}:")) == (78, "", True)


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
