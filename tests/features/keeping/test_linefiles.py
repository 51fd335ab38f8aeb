"""The files with erasures' lines are kept complete, and what is wrong with them is told."""

import json
import shutil
from contextlib import closing
from pathlib import Path
from signal import SIGKILL

import pytest

from premblyd.features.keeping.daemon import LineKeeper
from premblyd.features.keeping.erasurelines import (
    NAME,
    Read,
    all_lines,
    erase_again,
    own_file,
    read_lines,
    record_id,
    write_all,
)
from premblyd.ground.databases import DatabaseAddress
from premblyd.record import troubles
from premblyd.record.told import Item, Situation
from premblyd.store.connections import connect_operator, connect_read_only
from tests.features.keeping.test_erasing import arrive, erase
from tests.features.keeping.test_erasing_by_lines import copied
from tests.support.commands import recorded_in, run, run_process
from tests.support.daemon import Premblyd
from tests.support.database import by_hand, rows
from tests.support.store import NOW_MS, Store, store_at
from tests.support.waiting import wait_until

COPIED_TO = "INSERT INTO backup_folder (folder, copied_at_ms) VALUES (?, 1)"
EVERYTHING = "SELECT host, file, unknown, error FROM erasure_file ORDER BY id"


@pytest.fixture(autouse=True)
def state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the file of a database on a server is."""
    folder = tmp_path / "state"
    folder.mkdir()
    monkeypatch.setenv("STATE_DIRECTORY", str(folder))
    return folder


def read_of(place: DatabaseAddress, path: Path | None = None) -> Read:
    with closing(connect_read_only(place)) as database:
        return read_lines(path or own_file(place), database.look(record_id))


def keeper(store: Store, host: str = "web1") -> LineKeeper:
    return LineKeeper(store.writer, store.place, host)


def look(store: Store, own: LineKeeper | None = None) -> list[Item]:
    """Do a round, and return what is told of it."""
    store.wait((own or keeper(store)).round())
    with closing(connect_read_only(store.place)) as database:
        return troubles.items(Situation(record=database, now_ms=NOW_MS), kinds=["erasure_file"])


def test_a_line_that_a_crash_held_up_is_written_later(store: Store, tmp_path: Path) -> None:
    """Also to the folders of copies, which on a server are pg_dump's."""
    with closing(connect_operator(store.place)) as database:
        write_all(database, tmp_path)
    store.by_hand(COPIED_TO, str(tmp_path))
    store.by_hand(COPIED_TO.replace("1)", "NULL)"), "/its/first/copy/failed")
    arrive(store, 1)
    erase(store)  # the command ended here
    assert not own_file(store.place).exists()
    assert look(store) == []
    with closing(connect_read_only(store.place)) as database:
        assert read_of(store.place) == Read(lines=tuple(all_lines(database)), is_own=True)
    if not store.backend.is_shared:
        assert read_of(store.place, tmp_path / NAME).lines == read_of(store.place).lines != ()


def test_each_host_of_a_server_has_a_file_and_no_other_one_is_forgotten(store: Store) -> None:
    for host in ("web1", "web2", "web1"):
        look(store, keeper(store, host))
    own = str(own_file(store.place))
    assert store.rows(EVERYTHING) == [("web2", own, 0, None), ("web1", own, 0, None)]


def test_a_folder_that_can_not_be_written_is_told_until_it_can(path: Path, tmp_path: Path) -> None:
    with store_at(path) as store:
        folder = tmp_path / "copies"
        folder.mkdir()
        with closing(connect_operator(path)) as database:
            write_all(database, folder)
        store.by_hand(COPIED_TO, str(folder))
        own = keeper(store)
        folder.rename(tmp_path / "away")
        folder.mkdir()  # where the disk was mounted
        assert look(store, own) == [], "nobody was erased, so nothing is missing"
        arrive(store, 1)
        erase(store)
        [item] = look(store, own)
        assert "Is its disk mounted?" in item.text
        assert item.about == str(folder / NAME)
        assert item.command == f"ls -l {folder / NAME}"
        assert list(folder.iterdir()) == [], "nobody would find it there"
        assert look(store, own) != []
        folder.rmdir()
        (tmp_path / "away").rename(folder)
        assert look(store, own) == []
        assert read_of(store.place, folder / NAME).lines == read_of(store.place).lines


def test_a_copy_that_was_put_in_by_hand_is_told_at_the_start(path: Path, tmp_path: Path) -> None:
    with store_at(path) as store:
        arrive(store, 1)
        monday = copied(path, tmp_path / "monday.db")
        erase(store)
        assert look(store) == []
    for beside in path.parent.glob(f"{path.name}-*"):
        beside.unlink()
    shutil.copy(monday, path)
    with store_at(path) as store:
        [item] = look(store)
        assert item.command == "sudo -u premblyd premblyd record restore --erase-again"
        assert str(own_file(path)) in item.text
        with closing(connect_operator(path)) as database:
            erase_again(database, read_of(store.place).lines, NOW_MS)
            situation = Situation(record=database, now_ms=NOW_MS)
            assert troubles.items(situation, kinds=["erasure_file"]) == [], "at once"
        assert look(store) == []


# --- A killed command, and a real daemon -----------------------------------------------------

EAGER = "from premblyd.features.keeping import daemon; daemon.FIRST_S = 0"
KILLED = """
import os
from premblyd.features.keeping import erasurelines
erasurelines.complete = lambda *_: os.kill(os.getpid(), 9)
"""


@pytest.mark.process
def test_what_a_killed_command_left_the_daemon_writes(daemon: Premblyd, state_folder: Path) -> None:
    daemon.start(STATE_DIRECTORY=str(state_folder))
    assert daemon.send(b'{"response_code": "00", "reference": "ref-ada"}').status == 200
    erasing = ("person", "erase", "--reference", "ref-ada", "--yes", "--config", daemon.config)
    assert run_process(*erasing, before=KILLED).code == -SIGKILL
    assert daemon.rows("SELECT events FROM erasure") == [(1,)]
    daemon.stop()
    path = own_file(daemon.place)
    assert not path.exists()
    daemon.start(before=EAGER, STATE_DIRECTORY=str(state_folder))
    wait_until(lambda: read_of(daemon.place, path).lines)
    wait_until(lambda: daemon.rows(EVERYTHING))
    assert [row[1:] for row in daemon.rows(EVERYTHING)] == [(str(path), 0, None)]
    assert path.stat().st_mode & 0o777 == 0o640


# --- The command -----------------------------------------------------------------------------


def erase_somebody(config: Path) -> str:
    ((user_ref,),) = rows(recorded_in(config), "SELECT min(user_ref) FROM event")
    ran = run("person", "erase", "--user-ref", user_ref, "--yes", "--json", "--config", config)
    assert ran.code == 0
    assert json.loads(ran.out)["erasure_id"]
    return ran.err


def test_person_erase_writes_its_lines_or_says_where_not(config: Path, tmp_path: Path) -> None:
    place, folder = recorded_in(config), tmp_path / "copies"
    folder.mkdir()
    with closing(connect_operator(place)) as database:
        write_all(database, folder)
    by_hand(place, COPIED_TO, str(folder))
    assert erase_somebody(config) == ""
    written = read_of(place)
    assert written.lines
    if isinstance(place, Path):  # the copies of others are pg_dump's
        assert read_of(place, folder / NAME) == written
        folder.rename(tmp_path / "away")
        told = erase_somebody(config)
        assert told.startswith(f"note: with a copy, the person may come back. {folder}")
