"""The lines of erasures: what they say, and how files with them are read and written."""

import json
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from premblyd.features.keeping import erasurelines
from premblyd.features.keeping.erased import NameDigests
from premblyd.features.keeping.erasurelines import (
    NAME,
    Line,
    LineFileError,
    Read,
    all_lines,
    own_file,
    read_lines,
    record_id,
    write_all,
    write_missing,
)
from premblyd.features.postgresql.settings import Server
from premblyd.prembly.payload import session_reference
from premblyd.store.connections import connect_operator, connect_read_only
from tests.features.keeping.test_erasing import arrive, erase
from tests.features.keeping.test_erasing_again import begin
from tests.support.needs import needs_root
from tests.support.rows import for_each
from tests.support.store import Store

RECORD = "0a1b2c3d"
OF_NAME = Line(at_ms=1, number=1, event_id=0, key="d1", found_by="user_ref", actor="dpo")
OF_EVENT = Line(at_ms=1, number=1, event_id=7, key="k7", found_by="user_ref", actor="dpo")
LATER = Line(at_ms=2, number=2, event_id=3, key="k3", found_by="event", actor="dpo")


def lines_of(store: Store) -> list[Line]:
    with closing(connect_read_only(store.place)) as database:
        return all_lines(database)


def text_of(line: Line, record: str = RECORD, **changes: Any) -> str:
    return json.dumps({"record": record, **line._asdict(), **changes})


# --- What they say ---------------------------------------------------------------------------


def test_lines_say_what_was_erased_and_name_nobody(store: Store) -> None:
    ids = [arrive(store, number, session_id="session-ada") for number in (1, 2)]
    arrive(store, 3, user_ref="eve", reference="ref-eve", session_id=None)
    keys = dict(store.rows("SELECT id, key FROM event"))
    done = erase(store, reason="asked by Ada")
    lines = lines_of(store)
    of_events = [(each.event_id, each.key) for each in lines if each.event_id]
    assert of_events == [(number, keys[number]) for number in ids]
    digests = NameDigests(store.engine.digest_key)
    names = {digests.of_reference("ref-ada"), digests.of_session("session-ada")}
    names.add(digests.of_reference(session_reference("session-ada")))
    assert {each.key for each in lines if not each.event_id} == names
    about = {(each.at_ms, each.number, each.found_by, each.actor) for each in lines}
    assert about == {(done.at_ms, done.id, "user_ref", "dpo")}
    text = repr(lines)
    for hidden in ("ada", "Ada", digests.of_user("ada-lovelace")):
        assert hidden not in text


def test_an_erasure_has_lines_once_it_ended(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [arrive(store, number) for number in range(3)]
    begin(store, monkeypatch)
    assert lines_of(store) == []
    erase(store)
    assert [each.event_id for each in lines_of(store) if each.event_id] == ids


# --- Reading ---------------------------------------------------------------------------------


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / NAME
    assert write_missing(path, RECORD, [OF_NAME, OF_EVENT], like=tmp_path) == Read()
    assert path.stat().st_mode & 0o777 == 0o640
    first = path.read_bytes()
    known = Read(lines=(OF_NAME, OF_EVENT), is_own=True)
    assert write_missing(path, RECORD, [OF_EVENT, LATER]) == known
    assert path.read_bytes().startswith(first), "it only grows"
    assert read_lines(path, RECORD) == Read(lines=(OF_NAME, OF_EVENT, LATER), is_own=True)
    before = path.read_bytes()
    write_missing(path, RECORD, [LATER, OF_NAME])
    assert path.read_bytes() == before, "nothing is written twice"


@for_each(
    "text",
    [
        *(b"", b"\xff\xfe", b"[" * 100_000, b"[]", b'"record"', b"{}", b'{"record": "ffffffff"}'),
        text_of(OF_EVENT, record="ffffffff").encode(),
        text_of(OF_EVENT)[:-9].encode(),
        text_of(OF_EVENT, key=None).encode(),
        text_of(OF_EVENT, key="a\0b").encode(),
        text_of(OF_EVENT, key="\ud800").encode(),
        text_of(OF_EVENT, event_id=True).encode(),
        text_of(OF_EVENT, event_id=1 << 63).encode(),
        text_of(OF_EVENT, more=1).encode(),
        text_of(OF_EVENT, key="k" * erasurelines.MAX_LINE_BYTES).encode(),
    ],
)
def test_what_is_no_line_is_not_read_and_hides_no_other(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / NAME
    path.write_bytes(b"\n".join((text_of(OF_NAME).encode(), text, text_of(LATER).encode(), b"")))
    assert read_lines(path, RECORD).lines == (OF_NAME, LATER)


def test_a_line_that_a_crash_has_torn_takes_no_other_with_it(tmp_path: Path) -> None:
    path = tmp_path / NAME
    path.write_text(f"{text_of(OF_NAME)}\n{text_of(OF_EVENT)[:40]}")
    write_missing(path, RECORD, [OF_NAME, OF_EVENT])
    assert read_lines(path, RECORD) == Read(lines=(OF_NAME, OF_EVENT), is_own=True)
    path.write_text(text_of(OF_NAME))  # all but its end
    write_missing(path, RECORD, [OF_NAME, OF_EVENT])
    assert read_lines(path, RECORD) == Read(lines=(OF_NAME, OF_EVENT), is_own=True)


# --- Files of others -------------------------------------------------------------------------

_OTHERS: dict[str, Callable[[Path, Path], object]] = {
    "link": lambda path, elsewhere: path.symlink_to(elsewhere),
    "broken link": lambda path, elsewhere: path.symlink_to(elsewhere.with_name("nothing")),
    "pipe": lambda path, _: os.mkfifo(path),
    "folder": lambda path, _: path.mkdir(),
}


@for_each("kind", _OTHERS)
def test_nothing_but_a_file_is_opened(tmp_path: Path, kind: str) -> None:
    """Nor does anybody wait for who writes into a pipe."""
    folder, elsewhere = tmp_path / kind, tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.write_text(f"{text_of(OF_NAME)}\n")
    _OTHERS[kind](folder / NAME, elsewhere)
    for like in (folder, None):
        with pytest.raises(LineFileError, match=NAME):
            write_missing(folder / NAME, RECORD, [LATER], like=like)
    assert elsewhere.read_text() == f"{text_of(OF_NAME)}\n"
    assert not elsewhere.with_name("nothing").exists()


@for_each("there", [None, "", text_of(LATER, record="ffffffff"), '{"record": "ffffffff"}'])
def test_only_a_file_of_this_record_is_written(tmp_path: Path, there: str | None) -> None:
    """An empty folder may be where a disk is not mounted."""
    path = tmp_path / NAME
    if there is not None:
        path.write_text(there)
    with pytest.raises(LineFileError, match="Is its disk mounted"):
        write_missing(path, RECORD, [OF_NAME])
    assert (path.read_text() if path.exists() else None) == there


def test_a_copy_brings_all_lines_and_takes_none(store: Store, tmp_path: Path) -> None:
    """Also where the folder is that of another record too."""
    path = tmp_path / NAME
    path.write_text(f"{text_of(LATER)}\n")
    arrive(store, 1)
    with closing(connect_operator(store.place)) as database:
        record = database.look(record_id)
        write_all(database, tmp_path)
        assert read_lines(path, record) == Read(is_own=True), "so that erasures find it"
        path.write_text(f"{path.read_text()}{text_of(LATER, record)}\n")
        erase(store)
        write_all(database, tmp_path)
        write_all(database, tmp_path)
        lines = [LATER, *all_lines(database)]
    assert read_lines(path, record) == Read(lines=tuple(lines), is_own=True)
    assert read_lines(path, RECORD).lines == (LATER,)


def test_the_own_file_is_beside_the_database_or_in_the_folder_that_lasts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert own_file(tmp_path / "a.db") == tmp_path / "a.db.erased.jsonl"
    server = Server("postgresql:///record")
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    assert own_file(server) == Path("/var/lib/premblyd/erased.jsonl")
    monkeypatch.setenv("STATE_DIRECTORY", "/srv/a:/srv/b")
    assert own_file(server) == Path("/srv/a/erased.jsonl")


@needs_root
def test_a_file_that_root_makes_is_the_owners_of_the_database(tmp_path: Path) -> None:
    database = tmp_path / "a.db"
    database.touch()
    os.chown(database, 1234, 2345)
    write_missing(own_file(database), RECORD, [OF_NAME], like=database)
    found = own_file(database).stat()
    assert (found.st_uid, found.st_gid) == (1234, 2345)
