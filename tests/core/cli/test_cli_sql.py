"""`premblyd sql`: a question in SQL is answered, on either engine, and changes nothing."""

import csv
import io
import json
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from premblyd.ground import words
from tests.support.commands import json_of, recorded_in, run
from tests.support.database import rows, server_of
from tests.support.rows import for_each

ENDLESS = "WITH RECURSIVE x(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM x) SELECT"
LOOKED_AT = "SELECT id, outcome FROM event WHERE id < 3 ORDER BY id"
WRITES = (
    "INSERT INTO operator_action (at_ms, actor, action) VALUES (9, 'x', 'y') RETURNING id",
    "UPDATE event SET outcome = 'verified'",
    "DROP TABLE attempt",
    "CREATE TABLE x (y INTEGER)",
)
ON_SQLITE = (
    "ATTACH 'other.db' AS other",
    "PRAGMA journal_mode = delete",
    "SELECT load_extension('x')",
    "VACUUM INTO 'copy.db'",
    "BEGIN IMMEDIATE",
)


def refused(config: Path, query: str, *more: object) -> str:
    """Return why a query was refused."""
    done = run("sql", query, *more, "--config", config)
    assert (done.code, done.out) == (1, "")
    return done.err


def test_a_question_is_answered_as_a_table_as_json_and_as_csv(config: Path) -> None:
    table = run("sql", LOOKED_AT, "--config", config)
    assert (table.code, table.err) == (0, "")
    lines = [line.split() for line in table.out.splitlines()]
    assert lines == [["id", "outcome"], ["1", "verified"], ["2", "verified"]]
    found = [{"id": 1, "outcome": "verified"}, {"id": 2, "outcome": "verified"}]
    assert json_of(config, "sql", LOOKED_AT) == found
    done = run("sql", LOOKED_AT, "--csv", "--config", config)
    rows = list(csv.DictReader(io.StringIO(done.out.removeprefix("\ufeff"))))
    assert rows == [{name: str(value) for name, value in each.items()} for each in found]


def test_what_is_stored_is_shown_as_it_is(config: Path) -> None:
    """Whoever may read the file can read all of it: the help says so."""
    query = "SELECT body, headers, 9.5 AS x, NULL AS y FROM event WHERE id = 1"
    [row] = json_of(config, "sql", query)
    assert json.loads(row["body"])["data"]["firstName"] == "AMINA"
    assert (row["x"], row["y"]) == (9.5, None)
    query = "SELECT '100 %s' AS x, 7 % 4 AS y; "
    assert json_of(config, "sql", query) == [{"x": "100 %s", "y": 3}]
    assert "hold personal data in clear" in " ".join(run("sql", "--help").out.split())


@pytest.mark.sqlite
def test_bytes_that_are_no_text_are_in_base64(config: Path) -> None:
    assert json_of(config, "sql", "SELECT x'ff00' AS x") == [{"x": "/wA="}]


def test_a_question_that_finds_nothing_is_answered_too(config: Path) -> None:
    query = "SELECT id FROM event WHERE id < 0"
    assert run("sql", query, "--config", config).out == "No rows.\n"
    assert json_of(config, "sql", query) == []
    assert run("sql", query, "--csv", "--config", config).out == '\ufeff"id"\n'


@for_each("query", WRITES)
def test_a_write_is_refused_and_changes_nothing(config: Path, query: str) -> None:
    place = recorded_in(config)
    kept = "SELECT min(outcome), (SELECT count(*) FROM operator_action) FROM event"
    before = rows(place, kept)
    said = refused(config, query)
    assert said == "`premblyd sql` is read-only: give it a SELECT.\n" or server_of(place)
    assert rows(place, kept) == before


@pytest.mark.sqlite
@for_each("query", ON_SQLITE)
def test_nor_does_sqlite_do_anything_else(
    config: Path, query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(config.parent)
    assert refused(config, query) == "`premblyd sql` is read-only: give it a SELECT.\n"
    assert not {"other.db", "copy.db"} & set(os.listdir())


def test_more_rows_than_the_limit_are_cut_and_it_says_so(config: Path) -> None:
    done = run("sql", "SELECT id FROM event", "--limit", 2, "--json", "--config", config)
    assert (done.code, len(json.loads(done.out))) == (0, 2)
    assert done.err == "There are more than 2 rows: --limit prints more.\n"
    exact = run("sql", "SELECT 1 AS x", "--limit", 1, "--config", config)
    assert (exact.code, exact.err) == (0, "")


def test_of_a_query_without_an_end_only_what_is_printed_is_read(config: Path) -> None:
    done = run("sql", f"{ENDLESS} n FROM x", "--limit", 2, "--csv", "--config", config)
    assert (done.code, done.out) == (0, '\ufeff"n"\n"1"\n"2"\n')


class AtOnce(threading.Timer):
    def run(self) -> None:
        while not self.finished.wait(0.01):  # again, for the query may not have begun
            self.function()


def test_a_query_that_takes_too_long_is_ended(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("premblyd.cli.sql.threading", SimpleNamespace(Timer=AtOnce))
    said = refused(config, f"{ENDLESS} max(n) FROM x")
    assert said.startswith("The query failed: ")


@for_each(
    ("query", "piece"),
    [
        ("SELEC 1", "SELEC"),
        ("SELECT nothing FROM event", "nothing"),
        ("SELECT 1; SELECT 2", "The query failed: "),
    ],
)
def test_wrong_sql_is_told_in_the_engines_words(config: Path, query: str, piece: str) -> None:
    said = refused(config, query)
    assert said.startswith("The query failed: ")
    assert piece in said


@for_each("cell", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", " =1", "＝1"])
def test_no_cell_of_a_csv_is_a_formula(cell: str) -> None:
    text = (words.csv_head(["x"]) + words.csv_lines([[cell]])).decode("utf-8-sig")
    (_, shown) = csv.reader(io.StringIO(text, newline=""))
    assert shown[0].startswith(("'", "[U+000D]"))
    assert words.csv_lines([[-1]]) == b'"-1"\r\n', "a number of ours is one"
