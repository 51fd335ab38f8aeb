"""Another file is put in the place of the database, wherever it is killed."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from premblyd.features.backup.replacing import put_in_place
from premblyd.ground.errors import CannotStartError, TryAgainError
from premblyd.store.sqlite.engine import SqliteBackend
from premblyd.store.sqlite.files import REPLACING, beside, hold, put_aside
from tests.support.dying import dies
from tests.support.store import NOW_MS, Store

MARK = "CREATE TABLE IF NOT EXISTS mark (name TEXT)"
ASIDE = ".before-20231114T221320"
# Each file or folder is opened to be synced.
CALLS = ("os.link", "os.rename", "os.remove", "os.chmod", "sqlite3.connect", "open")


def marked(path: Path, name: str, *, logged: str | None = None) -> Path:
    """Make a database with a mark in its file, and one more in a log that nobody put into it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = wal")
        database.execute(MARK)
        database.execute("INSERT INTO mark VALUES (?)", (name,))
    if logged is not None:
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            database.execute("INSERT INTO mark VALUES (?)", (logged,))
            for suffix in ("", "-wal"):
                shutil.copy(beside(path, suffix), beside(path, f"{suffix}.kept"))
        for suffix in ("", "-wal"):
            beside(path, f"{suffix}.kept").rename(beside(path, suffix))
    return path


def marks(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return [name for (name,) in database.execute("SELECT name FROM mark")]


def spoil(path: Path) -> bytes:
    with path.open("r+b") as file:
        file.write(b"no database any more")
    return path.read_bytes()


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()} - {"db.lock", "db-shm"}


def test_the_new_one_is_there_and_the_old_one_is_kept_with_what_its_log_had(tmp_path: Path) -> None:
    place = marked(tmp_path / "db", "old", logged="logged")
    with hold(place):
        aside = put_in_place(marked(tmp_path / "new", "new"), place, NOW_MS)
    assert marks(place) == ["new"]
    assert aside == beside(place, ASIDE)
    assert marks(aside) == ["old", "logged"]
    assert put_aside(place) == [aside]
    assert names(tmp_path) == {"db", aside.name}
    assert place.stat().st_mode & 0o777 == 0o640


def test_a_log_whose_file_is_lost_is_kept(tmp_path: Path) -> None:
    place = marked(tmp_path / "db", "old", logged="logged")
    log = beside(place, "-wal").read_bytes()
    place.unlink()
    with hold(place):
        put_in_place(marked(tmp_path / "new", "new"), place, NOW_MS)
    assert marks(place) == ["new"]
    assert beside(place, f"{ASIDE}-wal").read_bytes() == log


def test_where_there_was_none_nothing_is_kept_and_two_in_one_second_are_kept_apart(
    tmp_path: Path,
) -> None:
    place = tmp_path / "db"
    for before in (None, b""):
        if before is not None:
            place.write_bytes(before)
        assert put_in_place(marked(tmp_path / "new", "1"), place, NOW_MS) is None
    assert put_aside(place) == []
    for name in ("2", "3"):
        put_in_place(marked(tmp_path / "new", name), place, NOW_MS)
    assert [marks(aside) for aside in put_aside(place)] == [["1"], ["2"]]
    assert marks(place) == ["3"]


def test_the_link_to_a_database_leads_to_it_still(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    real = marked(tmp_path / "folder" / "db", "old")
    link = tmp_path / "link"
    link.symlink_to(real)
    put_in_place(marked(tmp_path / "folder" / "new", "new"), link, NOW_MS)
    assert link.is_symlink()
    assert marks(real) == ["new"]
    assert [marks(aside) for aside in put_aside(link)] == [["old"]]


def test_while_another_has_it_open_nothing_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("premblyd.features.backup.replacing.BUSY_TIMEOUT_S", 0)
    place = marked(tmp_path / "db", "old")
    with closing(sqlite3.connect(place)) as other:
        other.execute("SELECT * FROM mark").fetchall()
        with pytest.raises(TryAgainError, match="Somebody else has"):
            put_in_place(marked(tmp_path / "new", "new"), place, NOW_MS)
    assert marks(place) == ["old"]
    assert put_aside(place) == []


@pytest.mark.process
@pytest.mark.parametrize("is_whole", [True, False])
def test_wherever_it_is_killed_one_whole_database_is_there_and_again_finishes(
    tmp_path: Path, is_whole: bool
) -> None:
    steps = 0
    while not killed_at(steps, tmp_path / f"{steps}", is_whole):
        steps += 1
    assert steps > (8 if is_whole else 14)


def killed_at(step: int, folder: Path, is_whole: bool) -> bool:
    """Kill it before its call number `step` that changes names or waits for the disk, and look at
    what it left; return whether it had come to its end."""
    folder.mkdir()
    place = marked(folder / "db", "old", logged="logged")
    log = beside(place, "-wal").read_bytes()
    spoiled = b"" if is_whole else spoil(place)
    new = marked(folder / "new", "new")
    is_done = dies(step, lambda: put_in_place(new, place, NOW_MS), CALLS)
    if is_whole:
        with SqliteBackend(place).hold():  # a daemon can start on it
            found = marks(place)
        assert found == ["new"] or (not is_done and found == ["old", "logged"])
    elif beside(place, REPLACING).exists():
        for use in (SqliteBackend(place).hold().__enter__, SqliteBackend(place).connect_read_only):
            with pytest.raises(CannotStartError, match="premblyd record restore") as raised:
                use()
            assert raised.value.exit_code == 78
        assert SqliteBackend(place).inspect().obstacles == (str(raised.value),)
    else:
        assert place.read_bytes() == spoiled or marks(place) == ["new"]
    with hold(place):
        if not is_done:
            put_in_place(marked(folder / "again", "again"), place, NOW_MS)
    assert marks(place) == (["new"] if is_done else ["again"])
    kept = beside(place, ASIDE)
    if is_whole:
        assert marks(kept) == ["old", "logged"]
    else:
        assert kept.read_bytes() == spoiled
        assert beside(kept, "-wal").read_bytes() == log
    assert not beside(place, "-wal").exists() or not beside(place, "-wal").stat().st_size
    assert not beside(place, REPLACING).exists()
    return is_done


def test_a_second_name_of_ours_is_taken_away_by_the_next_daemon(store: Store, path: Path) -> None:
    aside = beside(path, ASIDE)
    aside.hardlink_to(path)
    assert SqliteBackend(path).inspect().obstacles == ()
    with SqliteBackend(path).hold():
        assert not aside.exists()
    path.with_name("other").hardlink_to(path)
    with pytest.raises(CannotStartError, match="second name"), SqliteBackend(path).hold():
        pass
