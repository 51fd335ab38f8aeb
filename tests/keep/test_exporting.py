"""Tables of the record, whole, for auditors."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from premblyd.engines.engine import Database
from premblyd.record import exporting
from premblyd.record.exporting import KINDS, Format, Period
from premblyd.record.operating import RecordedExport
from tests.support.commands import PERSONAL, recorded_in, run
from tests.support.database import rows
from tests.support.rows import for_each
from tests.support.store import NOW_MS, Store
from tests.test_cli_json import EVENT

ALWAYS = Period(since_ms=0, until_ms=NOW_MS * 2)
REVEALED = RecordedExport(about="all")
HUSH = ("hush", "user-1", "Ada")


def exported(database: Database, what: str = "events", **more: Any) -> list[dict[str, Any]]:
    """Return the rows of a table as JSON has them."""
    given = {"period": ALWAYS, "recorded": None, **more}
    pieces = exporting.pieces(database, what, given["period"], Format.JSONL, given["recorded"])
    return [json.loads(line) for line in b"".join(pieces).splitlines()]


def spreadsheet(database: Database, recorded: RecordedExport | None = None) -> list[dict[str, str]]:
    text = b"".join(exporting.pieces(database, "events", ALWAYS, Format.CSV, recorded))
    return list(csv.DictReader(io.StringIO(text.decode("utf-8-sig"), newline="")))


def test_every_row_is_in_it_once_however_small_the_parts_are(
    store: Store, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(7):
        store.add("crm", body=b"%d" % number)
    monkeypatch.setattr(exporting, "MOST_ROWS", 3)
    monkeypatch.setattr(exporting, "MOST_BYTES", 2)
    ids = [number for (number,) in store.rows("SELECT id FROM event ORDER BY id")]
    assert [row["id"] for row in exported(database)] == ids
    assert [row["body"] for row in exported(database, recorded=REVEALED)] == [*"0123456"]
    assert len(exported(database, "deliveries")) == 7


def test_no_statement_reads_more_rows_or_bodies_than_a_part_has(
    store: Store, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(7):
        store.add(body=b"%d" % number * 10)
    monkeypatch.setattr(exporting, "MOST_ROWS", 3)
    monkeypatch.setattr(exporting, "MOST_BYTES", 25)
    pieces = exporting.pieces(database, "events", ALWAYS, Format.JSONL, REVEALED)
    assert [piece.count(b"\n") for piece in pieces] == [2, 2, 2, 1]
    pieces = exporting.pieces(database, "events", ALWAYS, Format.JSONL)
    assert [piece.count(b"\n") for piece in pieces] == [3, 3, 1]


def test_what_comes_after_the_beginning_is_not_in_it(store: Store, database: Database) -> None:
    store.add(body=b"1")
    pieces = exporting.pieces(database, "events", ALWAYS, Format.JSONL)
    first = next(pieces)
    store.add(body=b"2")
    assert (first.count(b"\n"), list(pieces)) == (1, [])


def test_only_the_period_is_in_it_whenever_the_clock_was_set(
    store: Store, database: Database
) -> None:
    for number, at_ms in enumerate((0, 10, -5, 20, 3)):
        store.add(body=b"%d" % number, received_at_ms=NOW_MS + at_ms)
    period = Period(since_ms=NOW_MS, until_ms=NOW_MS + 20)
    found = [row["received_at_ms"] - NOW_MS for row in exported(database, period=period)]
    assert found == [0, 10, 3]
    nothing = Period(since_ms=NOW_MS + 21, until_ms=NOW_MS * 2)
    assert exported(database, period=nothing) == []


def test_personal_data_is_masked_and_payload_is_not_there(store: Store, database: Database) -> None:
    store.add(user_ref="Ada Lovelace", reference="22200000042", detail="Ada is 22200000042")
    for text in (json.dumps(exported(database)), str(spreadsheet(database))):
        assert not [word for word in (*HUSH, "22200000042") if word in text]
    (row,) = exported(database)
    assert list(row) == [name for name in EVENT if name != "contradicted"]
    assert (row["user_ref"], row["detail"]) == ("•••", "••• is •••")
    (row,) = exported(database, recorded=REVEALED)
    assert (row["user_ref"], row["token"], row["session_id"], row["headers"], row["body"]) == (
        "Ada Lovelace",
        "hush-token",
        "hush-session",
        [["User-Agent", "Prembly"]],
        '{"hush": "body"}',
    )


def test_a_body_that_is_no_text_is_in_base64(store: Store, database: Database) -> None:
    store.add(body=b"\xff\x00")
    (row,) = exported(database, recorded=REVEALED)
    assert (row["body"], row["body_base64"]) == (None, "/wA=")
    (cells,) = spreadsheet(database, REVEALED)
    assert (cells["body"], cells["body_base64"]) == ("", "/wA=")


def test_a_spreadsheet_has_texts_that_do_nothing(store: Store, database: Database) -> None:
    store.add(user_ref='=HYPERLINK("http://x","y")', detail="a\x00b\u202ec", body=b"@SUM(1)")
    (cells,) = spreadsheet(database, REVEALED)
    assert cells["user_ref"].startswith("'=")
    assert cells["body"] == "'@SUM(1)"
    assert cells["detail"].endswith("b[U+202E]c")
    assert cells["received_at"] == "2023-11-14 22:13:20"


@for_each("what", KINDS)
def test_every_table_has_rows_or_its_head_alone(
    store: Store, database: Database, what: str
) -> None:
    text = b"".join(exporting.pieces(database, what, ALWAYS, Format.CSV)).decode("utf-8-sig")
    names = exporting.columns(what, Format.CSV, is_revealed=False)
    assert text.splitlines()[0] == ",".join(f'"{name}"' for name in names)
    assert names[0] == "id"


def test_a_file_is_private_and_never_in_the_place_of_another(config: Path, tmp_path: Path) -> None:
    target = tmp_path / "events.csv"
    arguments = ("export", "--since", "1d", "--format", "csv", "--to", target, "--config", config)
    done = run(*arguments)
    assert (done.code, done.out, done.err) == (0, "", "")
    assert target.stat().st_mode & 0o777 == 0o600
    text = target.read_text()
    assert not [word for word in PERSONAL if word in text]
    done = run(*arguments)
    assert (done.code, "is there already" in done.err) == (1, True)
    assert target.read_text() == text
    recorded = "SELECT action, event_id, note FROM operator_action WHERE action = 'export'"
    ((_, event_id, note),) = rows(recorded_in(config), recorded)
    assert event_id is None
    assert note.startswith("events from ")
    assert note.endswith(" UTC, masked")


def test_what_is_revealed_is_on_record(config: Path) -> None:
    arguments = ("export", "--since", "1d", "--format", "jsonl", "--to", "-", "--config", config)
    done = run(*arguments, "--reveal")
    assert (done.code, done.err) == (0, "")
    assert {"22200000042"} <= {word for word in PERSONAL if word in done.out}
    recorded = "SELECT note FROM operator_action WHERE action = 'export'"
    ((note,),) = rows(recorded_in(config), recorded)
    assert note.endswith(" UTC, revealed")


@for_each(
    ("arguments", "words"),
    [
        ([], "Say where: --to FILE"),
        (["--to", "-"], "Say of whom: --user-ref or --reference; or a table: --since and"),
        (["--since", "1d", "--to", "-"], "--since and --format"),
        (["--user-ref", "u", "--to", "-"], "A ZIP is written to a file"),
        (["--user-ref", "u", "--reference", "r", "--to", "x"], "go one at a time"),
        (["--user-ref", "u", "--reveal", "--to", "x"], "are of tables"),
        (["--since", "1d", "--format", "csv", "--to", "-", "--json"], "--json tells of a file"),
        (["--since", "1d", "--until", "2d", "--format", "csv", "--to", "-"], "nothing can be"),
        (["--since", "1d", "--what", "people", "--format", "csv", "--to", "-"], "'people' is not"),
    ],
)
def test_what_says_nothing_clear_is_refused(config: Path, arguments: list[str], words: str) -> None:
    done = run("export", *arguments, "--config", config)
    assert (done.code, done.out) == (2, "")
    assert words in " ".join(done.err.split())
