"""`premblyd restore` of a copy that has people who were erased since."""

import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from premblyd.engines.connections import connect_operator
from premblyd.engines.sqlite import opening
from premblyd.keep import erasing
from premblyd.keep.persons import Named
from premblyd.model import history
from premblyd.verifications.erased import which_erased
from tests.support.commands import run
from tests.support.database import rows

pytestmark = pytest.mark.sqlite
FLOOR = "SELECT migration FROM schema_floor"
NAMED = "SELECT id FROM event WHERE reference IS NOT NULL ORDER BY id"


@pytest.fixture
def database(config: Path) -> Path:
    return config.with_name("premblyd.db")


@pytest.fixture
def copy(database: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "copy.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("VACUUM INTO ?", (str(copy),))
    return copy


def erase(database: Path, after: int = 0) -> tuple[str, int]:
    """Erase the verification that has most events, or one after it; return its reference and how
    many events it had."""
    named = "FROM event WHERE reference IS NOT NULL GROUP BY reference"
    sql = f"SELECT reference, count(*) {named} ORDER BY 2 DESC, 1 LIMIT 1 OFFSET ?"
    [(reference, count)] = rows(database, sql, after)
    with closing(connect_operator(database)) as operator:
        request = erasing.Request(named=Named.reference(reference), actor="dpo")
        erasing.erase(operator, request)
    return reference, count


def restore(copy: Path, config: Path) -> str:
    done = run("restore", copy, "--config", config)
    assert (done.code, done.err) == (0, "")
    return done.out


def test_who_was_erased_since_is_erased_from_the_copy(
    config: Path, database: Path, copy: Path
) -> None:
    reference, count = erase(database)
    assert count > 1
    with closing(sqlite3.connect(copy)) as connection, connection:
        name = "INSERT INTO verification_name (name, verification, at_ms) VALUES (?, ?, 1)"
        connection.execute(name, (reference, reference))
    remaining = rows(database, NAMED)
    out = restore(copy, config)
    assert (
        f"Erased from it again who was erased since it was made: {count} events of 1 erasure."
        f" {copy} has them still: delete it.\n"
    ) in out
    assert rows(database, NAMED) == remaining
    assert reference.encode() not in database.read_bytes()
    assert rows(database, "SELECT actor, events FROM erasure") == [("dpo", count)]
    floor = rows(database, FLOOR)
    assert floor == rows(next(config.parent.glob("*.replaced-*")) / database.name, FLOOR)
    with closing(connect_operator(database)) as operator:
        assert operator.look(lambda each: which_erased(each, [reference])) == {reference: 1}


def test_what_copy_and_database_have_of_one_number_is_not_one_thing(
    config: Path, database: Path, copy: Path, tmp_path: Path
) -> None:
    """They went different ways since an earlier restore, each with a first erasure and hold."""
    other = Path(shutil.copy(copy, tmp_path / "other.db"))
    hold = "INSERT INTO hold (user_ref, at_ms, actor) VALUES (?, ?, 'dpo')"
    erased = []
    for number, path in enumerate((other, database)):
        erased.append(erase(path, number)[0])
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(hold, (f"usr-{number}", number))
    out = restore(other, config)
    assert "of 1 erasure." in out
    sql = "SELECT count(*) FROM event WHERE reference IN (?, ?)"
    assert rows(database, sql, *erased) == [(0,)]
    assert not [each for each in erased if each.encode() in database.read_bytes()]
    assert rows(database, "SELECT id, events > 0 FROM erasure ORDER BY id") == [(1, 1), (2, 1)]
    assert rows(database, "SELECT id, user_ref FROM hold ORDER BY id") == [
        (1, "usr-0"),
        (2, "usr-1"),
    ]
    with closing(connect_operator(database)) as operator:
        known = operator.look(lambda each: which_erased(each, erased))
    assert known == {erased[0]: 1, erased[1]: 2}


def test_holds_and_closings_that_came_since_are_taken_over(
    config: Path, database: Path, copy: Path
) -> None:
    hold = ("hold", "--user-ref", "usr-1", "--yes", "--config", config)
    assert run(*hold).code == 0
    with closing(sqlite3.connect(database)) as connection, connection:  # by a script, at once
        another = "INSERT INTO hold (user_ref, at_ms, actor) SELECT 'usr-3', at_ms, actor FROM hold"
        connection.execute(another)
    assert run("closed", "--user-ref", "usr-2", "--config", config).code == 0
    out = restore(copy, config)
    assert "Took over what came since it was made: 2 holds.\n" in out
    assert "Took over what came since it was made: 1 closing.\n" in out
    in_force = "SELECT user_ref FROM hold WHERE ended_at_ms IS NULL ORDER BY id"
    assert rows(database, in_force) == [("usr-1",), ("usr-3",)]
    assert rows(database, "SELECT user_ref FROM closing") == [("usr-2",)]


def test_a_hold_that_ended_since_has_ended_and_the_newest_closing_counts(
    config: Path, database: Path, tmp_path: Path
) -> None:
    close = ("closed", "--user-ref", "usr-1", "--config", config)
    hold = ("hold", "--user-ref", "usr-1", "--yes", "--reason", "usr-1 sues", "--config", config)
    assert (run(*hold).code, run(*close, "--at", "2020-01-31").code) == (0, 0)
    copy = Path(shutil.copy(database, tmp_path / "copy.db"))
    assert run("hold", "--end", "1", "--config", config).code == 0
    assert run(*close, "--at", "2021-01-31").code == 0
    closing = rows(database, "SELECT * FROM closing")
    restore(copy, config)
    assert rows(database, "SELECT id FROM hold WHERE ended_at_ms IS NULL") == []
    assert rows(database, "SELECT user_ref, reason FROM hold") == [(None, None)]
    assert rows(database, "SELECT * FROM closing") == closing


def test_a_copy_whose_digests_are_by_another_key_gets_that_of_the_old(
    config: Path, database: Path, copy: Path
) -> None:
    with closing(sqlite3.connect(copy)) as connection, connection:
        connection.execute("UPDATE digest_key SET key = ?", (bytes(32),))
    reference, count = erase(database)
    assert f"{count} events of 1 erasure" in restore(copy, config)
    assert reference.encode() not in database.read_bytes()
    [(key,)] = rows(database, "SELECT key FROM digest_key")
    assert bytes(key) != bytes(32)


def test_a_copy_of_an_older_version_is_migrated_before_it_is_put_in(
    config: Path, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a person is found in it by the reference: the record of this event may be removed."""
    reference, _ = erase(database)
    copy, earlier = tmp_path / "copy.db", tmp_path / "migrations"
    shutil.copytree(history.MIGRATIONS, earlier)
    for script in [each for name in ("0008*", "0009*", "0012*") for each in earlier.glob(name)]:
        script.unlink()
    with monkeypatch.context() as patched:
        patched.setattr(history, "MIGRATIONS", earlier)
        opening.prepare(copy)
    with closing(sqlite3.connect(copy)) as connection, connection:
        connection.execute(
            "INSERT INTO event (key, endpoint, received_at_ms, remote_ip, headers, body_bytes,"
            " body_sha256, verified_by, kind, outcome, reference, body) VALUES ('k', 'e', 1,"
            " '192.0.2.1', '[]', 2, 'hush', 'hmac', 'api', 'verified', ?, '{}')",
            (reference,),
        )
    out = restore(copy, config)
    assert "An older premblyd wrote it. It was migrated.\n" in out
    assert "1 event of 1 erasure." in out
    assert rows(database, "SELECT lacks, reference, body FROM event") == [("erased", None, b"")]
    assert list(config.parent.glob("**/*before*")) == []


def test_a_copy_of_another_record_is_put_in_with_a_warning(
    config: Path, database: Path, copy: Path
) -> None:
    with closing(sqlite3.connect(copy)) as connection, connection:
        connection.execute("UPDATE digest_key SET key = ?", (bytes(32),))
    erase(copy)
    erase(database)
    out = restore(copy, config)
    assert "Who was erased or held since it was made is not known (The copy is of another" in out


def test_a_database_that_is_damaged_tells_nothing(config: Path, database: Path, copy: Path) -> None:
    database.write_bytes(b"no database")
    out = restore(copy, config)
    assert re.search(r"Who was erased or held since it was made is not known \(.+\): erase", out)
    assert rows(database, NAMED) != []


def test_what_cannot_be_erased_again_is_not_put_in(
    config: Path, database: Path, copy: Path
) -> None:
    erase(database)
    before = rows(database, NAMED)
    with closing(sqlite3.connect(copy)) as connection, connection:
        connection.execute(
            "CREATE TRIGGER no BEFORE UPDATE ON event BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    done = run("restore", copy, "--config", config)
    assert done.code != 0
    assert rows(database, NAMED) == before
