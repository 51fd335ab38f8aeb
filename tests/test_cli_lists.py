"""Lists on a terminal and in a pipe, and while the configuration is broken."""

import io
import json
import os
import re
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from premblyd.cli import printing
from premblyd.cli.printing import Column, Sizes, fit, print_table
from premblyd.databases import Server
from premblyd.errors import SchemaError
from tests.support.commands import Ran, json_of, on_terminal, recorded_in, run
from tests.support.database import by_hand, rows, url_of
from tests.support.rows import for_each

ASKING = {"prembly": {"api_key": "live_sk_1"}, "pending": {"ask": ["1m"], "give_up": "1d"}}
LISTS = [["events"], ["deliveries"], ["unsettled"], ["rejections"]]
LONG_REFERENCE = "00000000-0000-4000-8000-00000000000000000000-of-a-long-kind"
LONG_ERROR = "the TLS certificate is not trusted: unable to get local issuer certificate at depth 2"
BROKEN = {
    "a typing mistake": "database: sqlite:///premblyd.db\nendpiont: []\n",
    "no YAML": "endpoints:\n  - {name: a\ndatabase: sqlite:///premblyd.db\nactions: [\n",
    "a tab": "database: sqlite:///premblyd.db\nactions:\n\t- name: x\n",
    "a key twice": "database: sqlite:///premblyd.db\nlog: {}\nlog: {}\n",
}


def change(config: Path, sql: str, *values: object) -> None:
    by_hand(recorded_in(config), sql, *values, unchecked=True)


def joined(lines: list[str]) -> str:
    """Return folded lines as one."""
    return " ".join(" ".join(lines).split())


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
@pytest.mark.parametrize("columns", [40, 200])
@pytest.mark.parametrize("arguments", LISTS, ids=repr)
def test_a_list_has_one_line_a_row_on_any_terminal(
    config: Path, arguments: list[str], columns: int
) -> None:
    change(config, "UPDATE event SET id = id + 1234567 WHERE id > 20")
    change(config, "UPDATE delivery SET event_id = event_id + 1234567 WHERE event_id > 20")
    change(config, "UPDATE event SET reference = ? WHERE id > 15", LONG_REFERENCE)
    config.write_text(json.dumps(json.loads(config.read_text()) | ASKING))
    lines = on_terminal(columns, *arguments, "--limit", 20, "--config", config)
    assert max(map(len, lines)) <= columns
    listed = json_of(config, *arguments, "--limit", 20)
    body = [line for line in lines if line[:1].isdigit()]
    assert len(body) == len(listed)
    for line, row in zip(body, listed, strict=True):
        assert (row.get("state") or row.get("outcome", "20")[:1]) in line
    left_out = joined(lines[len(listed) + 1 :])
    assert ("--wide shows all." in left_out) == bool(left_out)


@pytest.mark.process
def test_a_list_says_what_it_leaves_out_and_shortens(config: Path) -> None:
    change(config, "UPDATE event SET reference = ?, duplicate_count = 0", LONG_REFERENCE)
    lines = on_terminal(80, "events", "--config", config)
    assert "…" in lines[1]
    assert joined(lines[-2:]) == (
        "Empty: duplicates. Left out: type, user ref, kind, endpoint."
        " Shortened: reference."
        " --wide shows all."
    )
    wide = on_terminal(400, "events", "--wide", "--config", config)
    assert LONG_REFERENCE in wide[1]
    assert "endpoint" in wide[0]
    assert "duplicates" in wide[0]
    assert "--wide" not in wide[-1]


@pytest.mark.process
def test_words_are_not_broken_at_80_columns(config: Path) -> None:
    change(config, "UPDATE delivery SET last_error = ?", LONG_ERROR)
    lines = on_terminal(80, "deliveries", "--state", "dead", "--config", config)
    start, end = lines[0].index("error"), lines[0].index("reference")
    assert lines[1][:start].split()[2:4] == ["activate-customer", "dead"]
    words = [word for line in lines[1:-1] for word in line[start:end].split()]
    assert set(LONG_ERROR.split()) <= set(words)


@pytest.mark.parametrize("arguments", LISTS, ids=repr)
def test_a_pipe_gets_every_column_whole(config: Path, arguments: list[str]) -> None:
    change(config, "UPDATE event SET reference = ?", LONG_REFERENCE)
    change(config, "UPDATE awaited SET reference = ?", LONG_REFERENCE)
    change(config, "UPDATE delivery SET last_error = ?", LONG_ERROR * 9)
    done = run(*arguments, "--config", config)
    assert done == run(*arguments, "--wide", "--config", config)
    assert len(done.out.splitlines()) == 1 + len(json_of(config, *arguments))
    texts = {
        "events": [LONG_REFERENCE],
        "deliveries": [LONG_REFERENCE, LONG_ERROR * 9],
        "unsettled": [LONG_REFERENCE],
        "rejections": ["digest"],
    }
    for text in texts[arguments[0]]:
        assert text in done.out


UNKNOWN = [
    (
        ["deliveries", "--action", "archiv"],
        "Neither the configuration nor the database has an action archiv; did you mean archive?",
    ),
    (
        ["deliveries", "--action", "zzz"],
        "Neither the configuration nor the database has an action zzz;"
        " there are activate-customer, archive, ask-compliance, page-operations.",
    ),
    (
        ["events", "--type", "transaction.proccessed"],
        "The database has no event of type transaction.proccessed, and Prembly documents none;"
        " did you mean transaction.processed?",
    ),
    (["deliveries", "--type", "workflow"], "; did you mean workflow.*?"),
    (["events", "--type", "transactoin.*"], "; did you mean transaction.*?"),
    (["events", "--type", "zzz"], "documents none; there are credit, other, prembly.status, sdk"),
    (
        ["events", "--code", "o7"],
        "The database has no event of code o7, and Prembly documents none; did you mean 07?",
    ),
    (["events", "--code", "Missing"], "; did you mean missing?"),
    (["events", "--code", "zz"], "; there are 00, 01, 02, 03, 07, missing."),
    (
        ["rejections", "--reason", "wrong_signature"],
        "Nothing is refused for the reason wrong_signature; did you mean wrong signature",
    ),
    (["rejections", "--reason", "\x07bell"], "; there are address not allowed, body too large, "),
]


@for_each(("arguments", "words"), UNKNOWN)
def test_a_filter_that_nobody_knows_is_said_beside_the_empty_list(
    config: Path, arguments: list[str], words: str
) -> None:
    done = run(*arguments, "--config", config)
    assert done.code == 0
    assert done.out == f"No {arguments[0]}.\n"
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


KNOWN = [
    ["deliveries", "--action", "archive", "--since", "2099-01-01"],
    ["deliveries", "--type", "credit", "--since", "2099-01-01"],
    ["events", "--type", "watchlist.identity_flagged", "--since", "2099-01-01"],
    ["events", "--type", "work*", "--since", "2099-01-01"],
    ["events", "--type", "house.sold", "--since", "2099-01-01"],
    ["events", "--code", "03", "--since", "2099-01-01"],
    ["events", "--code", "99", "--since", "2099-01-01"],
    ["events", "--code", "missing", "--since", "2099-01-01"],
    ["rejections", "--reason", "too slow"],
    ["rejections", "--reason", "an older reason", "--since", "2099-01-01"],
]


@for_each("arguments", KNOWN)
def test_of_a_filter_that_is_known_an_empty_list_says_no_more(
    config: Path, arguments: list[str]
) -> None:
    change(config, "UPDATE event SET type = 'house.sold', response_code = '99' WHERE id = 1")
    change(config, "UPDATE rejection SET reason = 'an older reason'")
    assert run(*arguments, "--config", config) == Ran(0, f"No {arguments[0]}.\n", "")


def test_an_action_is_looked_for_in_a_copy_alone_and_in_the_record_while_the_file_is_broken(
    config: Path,
) -> None:
    wrong = ["deliveries", "--action", "archiv"]
    place = recorded_in(config)
    named = place.url if isinstance(place, Server) else place
    copy = run(*wrong, "--database", named, "--config", config)
    assert copy.err == "note: The database has no action archiv; did you mean archive?\n"
    config.write_text(config.read_text().replace('"actions"', '"acts"'))
    assert copy.err in run(*wrong, "--config", config).err


@for_each(
    ("ranks", "sizes", "fits"),
    [
        # Those that matter least go first, and the others share what is left.
        ((2, 7), ((2, 2, 2), (10, 30, 30), (4, 4, 4)), {
            80: {0: 2, 1: 30, 2: 4}, 39: {0: 2, 1: 30}, 20: {0: 2, 1: 16}, 13: {0: 2}, 1: {0: 2},
        }),
        # One that was left out comes back where room is left.
        ((5, 7), ((30, 30, 30), (16, 36, 36), (20, 20, 20)), {
            60: {0: 30, 1: 28}, 48: {0: 30, 1: 16}, 47: {0: 30},
        }),
    ],
)  # fmt: skip
def test_columns_fit_a_terminal(
    ranks: tuple[int, int], sizes: tuple[tuple[int, int, int], ...], fits: dict[int, dict[int, int]]
) -> None:
    first, second = ranks
    columns = [Column("id"), Column("b", rank=first, kind="reference"), Column("c", rank=second)]
    for width, widths in fits.items():
        assert fit(columns, [Sizes(*each) for each in sizes], [0, 1, 2], width) == widths


def test_a_clock_that_is_wrong_by_a_year_is_said(config: Path) -> None:
    a_year_on = "UPDATE event SET received_at_ms = received_at_ms + 31622400000 WHERE id = 3"
    assert "an event was received at" not in run("check", "--config", config).err
    change(config, a_year_on)
    said = run("check", "--config", config).err
    assert "an event was received at " in said
    assert "UTC: it is wrong now, or was then. `timedatectl` shows the time" in said
    status = json.loads(run("status", "--json", "--config", config).out)
    assert "clock" in {item["kind"] for item in status["attention"]}


def test_a_time_far_off_is_no_traceback(config: Path) -> None:
    change(config, "UPDATE event SET received_at_ms = 9000000000000000000 WHERE id = 1")
    done = run("events", "--limit", 1000, "--config", config)
    assert (done.code, done.err) == (0, "")
    assert "9000000000000000000 ms" in done.out


def test_events_are_found_by_the_beginning_of_a_key(config: Path) -> None:
    key = json_of(config, "events", "--limit", 1)[0]["key"]
    for part in (key, key[:12], key[:12].upper()):
        assert [one["key"] for one in json_of(config, "events", "--key", part)] == [key]
    every = json_of(config, "events", "--limit", 1000)
    for digit in "0123456789abcdef":
        found = {one["id"] for one in json_of(config, "events", "--key", digit, "--limit", 1000)}
        assert found == {one["id"] for one in every if one["key"].startswith(digit)}
    for wrong in ("", "xyz", key + "0", "%"):
        done = run("events", "--key", wrong, "--config", config)
        assert done.code == 2
        assert "is not a key: 32 hex digits, or the first of them" in done.err


def test_events_and_deliveries_are_found_by_a_type_or_a_pattern(config: Path) -> None:
    def types(*arguments: object) -> set[str]:
        return {row["type"] for row in json_of(config, *arguments)}

    assert types("events", "--type", "transaction.ESCALATED") == {"transaction.escalated"}
    assert types("events", "--type", "workflow.process.*") == {
        f"workflow.process.{ending}" for ending in ("completed", "failed", "manual_review")
    }
    found = types("deliveries", "--type", "verification.*", "--action", "activate-customer")
    assert found == {"verification.async", "verification.direct", "verification.retried"}
    assert "verification.async" in run("deliveries", "--wide", "--config", config).out
    assert re.search(r"^id .* type ", run("events", "--config", config).out)
    assert run("events", "--type", "workflow.[p]*", "--config", config).code == 2


def test_deliveries_are_found_by_event_and_since(config: Path) -> None:
    (event,) = json_of(config, "events", "--reference", "sample-sdk-0001")
    every = json_of(config, "deliveries", "--limit", 1000)
    own = [one for one in every if one["event_id"] == event["id"]]
    assert len(own) == 2
    for name in (event["id"], event["key"]):
        assert json_of(config, "deliveries", "--event", name) == own
    assert json_of(config, "deliveries", "--since", "1h", "--limit", 1000) == every
    assert json_of(config, "deliveries", "--since", "2100-01-01") == []
    change(config, "UPDATE event SET received_at_ms = 0 WHERE id <> ?", event["id"])
    assert json_of(config, "deliveries", "--since", "1h", "--action", "archive") == [
        one for one in own if one["action"] == "archive"
    ]
    missing = run("deliveries", "--event", "9999", "--config", config)
    assert missing == Ran(1, "", "There is no event 9999. `premblyd events` lists them.\n")


def test_rejections_are_listed_and_filtered(config: Path) -> None:
    change(
        config,
        "INSERT INTO rejection (at_ms, endpoint, remote_ip, reason)"
        " VALUES (4200000000000, '', ?, 'too large')",
        "192.0.2.9",
    )
    newest, oldest = json_of(config, "rejections")
    assert (newest["reason"], newest["remote_ip"]) == ("too large", "192.0.2.9")
    assert (oldest["reason"], oldest["remote_ip"]) == ("wrong signature", "127.0.0.1")
    for options, found in (
        (["--reason", "too large"], [newest]),
        (["--ip", "127.0.0.1"], [oldest]),
        (["--since", "1h"], [newest, oldest]),
        (["--since", "2100-01-01"], [newest]),
        (["--limit", "1"], [newest]),
        (["--reason", "too slow"], []),
    ):
        assert json_of(config, "rejections", *options) == found
    assert run("rejections", "--reason", "x", "--config", config).out == "No rejections.\n"
    table = run("rejections", "--config", config).out
    assert "192.0.2.9" in table
    assert "wrong signature" in table


def test_what_is_pending_is_listed_and_filtered(config: Path) -> None:
    newest, *_ = rows = json_of(config, "unsettled")
    row = rows[-1]
    assert newest["id"] > row["id"]
    assert (row["state"], row["ask_count"]) == ("waiting", 0)
    event = json_of(config, "show", row["event_id"])
    assert event["outcome"] == "pending"
    assert (event["received_at_ms"], event["reference"]) == (row["created_at_ms"], row["reference"])
    assert event["awaited"] == [row]
    shown = run("show", row["event_id"], "--config", config).out
    assert (
        f"Unsettled {row['id']}: waiting after 0 questions to Prembly\n"
        "  not asked: the configuration has no `pending`\n"
    ) in shown
    for options, found in (
        (["--state", "waiting"], rows),
        (["--state", "given_up"], []),
        (["--reference", row["reference"]], [row]),
        (["--limit", "1"], [newest]),
        (["--reference", "other"], []),
        (["--since", "1h"], rows),
        (["--since", "2100-01-01"], []),
    ):
        assert json_of(config, "unsettled", *options) == found
    assert (
        run("unsettled", "--state", "settled", "--config", config).out
        == "No unsettled verifications.\n"
    )
    assert "waiting" in run("unsettled", "--config", config).out


def test_who_looks_at_what_is_pending_learns_that_nothing_asks(config: Path) -> None:
    note = "note: The configuration has no `pending`: Prembly is not asked.\n"
    silent = config.read_text()
    awaited = json_of(config, "unsettled")
    assert run("unsettled", "--config", config).err == note
    config.write_text(json.dumps(json.loads(silent) | ASKING))
    assert run("unsettled", "--config", config).err == ""
    shown = run("show", awaited[0]["event_id"], "--config", config).out
    assert "waiting after 0 questions to Prembly\n  asked next at " in shown
    by_hand(recorded_in(config), "UPDATE awaited SET due_at_ms = NULL, state = 'given_up'")
    assert run("unsettled", "--config", config).err == ""
    config.write_text(silent)
    assert run("unsettled", "--config", config).err == ""  # nothing waits to be asked
    by_hand(recorded_in(config), "DELETE FROM awaited")
    done = run("unsettled", "--config", config)
    assert (done.out, done.err) == ("No unsettled verifications.\n", note)


READERS = [["events"], ["deliveries"], ["unsettled"], ["rejections"], ["show", "1"]]


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        *((text, READERS[0]) for text in BROKEN.values()),
        *((BROKEN["no YAML"], each) for each in READERS[1:]),
    ],
)
def test_reading_needs_only_the_database_of_a_broken_configuration(
    config: Path, text: str, arguments: list[str]
) -> None:
    before = run(*arguments, "--config", config)
    config.write_text(text.replace("sqlite:///premblyd.db", url_of(recorded_in(config))))
    done = run(*arguments, "--config", config)
    assert (done.code, done.out) == (0, before.out)
    assert done.err.startswith(f"note: {config} has ")
    assert done.err.endswith("`premblyd check` lists them.\n")
    assert len(done.err.splitlines()) == 1
    assert run("check", "--config", config).code == 78


@for_each(
    "text",
    [
        "endpoints: []\n",
        "database: mysql://db\n",
        "database: [\n",
        "database: sqlite:///a.db\ndatabase: sqlite:///premblyd.db\n",
        "# database: sqlite:///premblyd.db\n",
    ],
)
def test_a_database_that_is_not_named_is_a_problem_of_the_configuration(
    config: Path, text: str
) -> None:
    config.write_text(text)
    done = run("events", "--config", config)
    assert (done.code, done.out) == (78, "")
    assert done.err.startswith(f"{config}:")


@pytest.mark.sqlite
def test_a_file_that_is_no_database_is_told_in_words(tmp_path: Path) -> None:
    file = tmp_path / "premblyd.yaml"
    file.write_text("listen: 127.0.0.1:8080\n")
    done = run("events", "--database", file)
    assert (done.code, done.out) == (78, "")
    assert done.err.startswith(f"{file} is encrypted, or is no SQLite database. ")


@pytest.mark.sqlite
@pytest.mark.parametrize("arguments", READERS, ids=repr)
def test_another_database_is_read_without_a_configuration(
    config: Path, arguments: list[str], tmp_path: Path
) -> None:
    copy = Path(shutil.copy(config.with_name("premblyd.db"), tmp_path / "copy.db"))
    config.write_text(json.dumps(json.loads(config.read_text()) | ASKING))
    expected = run(*arguments, "--config", config)
    config.unlink()
    for name in (copy, f"sqlite:///{copy}"):
        assert run(*arguments, "--database", name, "--config", config) == expected
    missing = run(*arguments, "--database", tmp_path / "no.db")
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


def test_a_look_that_a_newer_database_refuses_keeps_its_exit_status(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise SchemaError("It is newer.")

    monkeypatch.setattr("premblyd.cli.show.open_to_change", refuse)
    done = run("show", 1, "--reveal", "--config", config)
    assert (done.code, done.out) == (78, "")
    assert done.err == "Nothing is shown, because your access could not be recorded. It is newer.\n"


@pytest.mark.sqlite
def test_a_look_by_who_may_only_read_shows_nothing_and_says_how(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and may(path, mode))
    assert run("show", 1, "--config", config).code == 0
    looks = "SELECT count(*) FROM operator_action"
    before = rows(recorded_in(config), looks)
    done = run("show", 1, "--reveal", "--config", config)
    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines()[0] == (
        "Nothing is shown, because your access could not be recorded."
        f" You may not write {recorded_in(config)}. Run this as root or as its owner."
    )
    assert rows(recorded_in(config), looks) == before


def test_a_long_list_is_one_table_in_a_pipe_and_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = [(number, "名" if number % 2 else "name") for number in range(1, 1202)]
    print_table(("id", "who"), listed, empty="")
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["id    who ", "1     名  ", "2     name"]
    assert len(lines) == 1202
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, color_system=None, width=80)
    monkeypatch.setattr(printing, "console", lambda: terminal)
    print_table(("id", "who"), listed, empty="")
    assert screen.getvalue().splitlines() == lines
