"""The copy of a database that an upgrade makes and, when that fails, puts back."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from premblyd.engines.sqlite import copies
from premblyd.engines.sqlite.copies import CopyError, Restoration
from premblyd.model import history
from tests.support.commands import run
from tests.support.store import Store

MIGRATE = "CREATE TABLE added (id INTEGER)"


def change(database: Path, *statements: str) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def count(database: Path, table: str = "event") -> int:
    with closing(sqlite3.connect(database)) as connection:
        (number,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        assert isinstance(number, int)
        return number


@pytest.fixture
def stopped(store: Store) -> Path:
    """A database with one event, which is only in its log: the daemon was killed."""
    store.add("crm")
    return store.path


@pytest.fixture
def saved(stopped: Path) -> Iterator[Path]:
    assert copies.save(stopped) == copies.saved_copy(stopped)
    yield stopped
    assert list(stopped.parent.glob("*.part")) == []


def receive(store: Store) -> None:
    store.add("crm", body=b"of the new version")


def test_a_copy_has_what_is_in_the_log(saved: Path) -> None:
    assert count(copies.saved_copy(saved)) == 1


def test_what_a_killed_copy_left_goes_with_the_next(saved: Path) -> None:
    copy = copies.saved_copy(saved)
    left = [copy.with_name(f"{copy.name}.part{suffix}") for suffix in ("", "-journal")]
    for path in left:
        path.write_bytes(b"of a person")
    copies.save(saved)
    assert count(copy) == 1
    assert not any(path.exists() for path in left)


def test_without_a_database_there_is_no_copy_of_an_earlier_one(tmp_path: Path) -> None:
    database = tmp_path / "premblyd.db"
    copies.saved_copy(database).touch()
    assert copies.save(database) is None
    assert list(tmp_path.iterdir()) == []
    assert copies.restore(database) is None


def test_with_the_same_schema_the_database_stays_with_what_the_new_version_stored(
    saved: Path, store: Store
) -> None:
    receive(store)
    assert copies.restore(saved) == Restoration(is_put_back=False, events=1, attempts=0, aside=None)
    assert count(saved) == 2


def test_a_changed_schema_is_undone(saved: Path) -> None:
    change(saved, MIGRATE, "DELETE FROM delivery", "DELETE FROM event")
    restoration = copies.restore(saved)
    assert restoration is not None
    assert (restoration.is_put_back, restoration.events) == (True, 0)
    assert count(saved) == 1
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        count(saved, "added")


def test_what_only_the_new_version_stored_is_kept_aside(saved: Path, store: Store) -> None:
    receive(store)
    change(saved, MIGRATE)
    restoration = copies.restore(saved)
    (aside,) = saved.parent.glob("premblyd.db.replaced-*")
    assert restoration == Restoration(is_put_back=True, events=1, attempts=0, aside=aside)
    assert (count(saved), count(aside / saved.name)) == (1, 2)


def test_a_table_that_the_new_version_removed_comes_back(saved: Path) -> None:
    change(saved, "DROP TABLE attempt")
    restoration = copies.restore(saved)
    assert restoration is not None
    assert restoration.is_put_back
    assert count(saved, "attempt") == 0


def test_a_copy_that_cannot_be_made_leaves_what_is_there(saved: Path) -> None:
    before = copies.saved_copy(saved).read_bytes()
    saved.write_bytes(b"no database" * 1000)
    with pytest.raises(CopyError, match="The database could not be copied: "):
        copies.save(saved)
    assert copies.saved_copy(saved).read_bytes() == before


def test_install_sh_reads_what_was_done(stopped: Path, store: Store) -> None:
    copy = copies.saved_copy(stopped)
    assert run("upgrading", "save", stopped).out == f"Copied the database to {copy}\n"
    assert copy.stat().st_mode & 0o777 == 0o640
    assert run("upgrading", "restore", stopped).out == ""
    receive(store)
    assert run("upgrading", "restore", stopped).out == (
        "The new version stored 1 more events: the database stays\n"
    )
    change(stopped, MIGRATE)
    said = run("upgrading", "restore", stopped).out
    (aside,) = stopped.parent.glob("premblyd.db.replaced-*")
    assert said == (
        "Put the copy of the database back\n"
        f"The database with 1 events and 0 attempts of the failed version is in {aside}\n"
    )


def test_install_sh_learns_that_a_newer_version_has_changed_the_database(stopped: Path) -> None:
    assert run("upgrading", "fits", stopped).code == 0
    assert run("upgrading", "fits", stopped.with_name("not-there-yet.db")).code == 0
    change(stopped, "INSERT INTO schema_migration (name, applied) VALUES ('0099_later', 0)")
    refused = run("upgrading", "fits", stopped)
    assert refused.code == 78
    assert f"run `premblyd restore {stopped}.before-0099_later`" in refused.err


def test_the_package_asks_for_a_version_that_is_not_installed_yet(stopped: Path) -> None:
    known = history.known()
    assert run("upgrading", "fits", "--known", ",".join(known), stopped).code == 0
    refused = run("upgrading", "fits", "--known", ",".join(known[:-1]), stopped)
    assert refused.code == 78
    assert f"run `premblyd restore {stopped}.before-{known[-1]}`" in refused.err


def test_what_is_for_install_sh_is_not_in_the_help() -> None:
    assert "upgrading" not in run("--help").out
    assert run("upgrading", "--help").code == 0
