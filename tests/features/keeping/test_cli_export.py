"""`premblyd person export` of a person, and how its file is written."""

import json
import os
import zipfile
from pathlib import Path

import pytest

from premblyd.features.keeping.newfile import CannotWriteError, new_file
from tests.support.commands import Ran, read, recorded_in, run
from tests.support.database import changing

USER = "SELECT user_ref FROM event WHERE user_ref IS NOT NULL ORDER BY id LIMIT 1"


def exported(config: Path, *arguments: object) -> Ran:
    ((user_ref,),) = read(config, USER)
    return run("person", "export", "--user-ref", user_ref, *arguments, "--config", config)


def test_a_person_is_taken_out_into_a_private_file(config: Path, tmp_path: Path) -> None:
    target = tmp_path / "person.zip"
    done = exported(config, "--to", target, "--json")
    assert done.code == 0
    told = json.loads(done.out)
    assert list(told) == ["events", "other_ids", "nameless_ids", "file", "bytes"]
    assert told["bytes"] == target.stat().st_size
    assert target.stat().st_mode & 0o777 == 0o600
    with zipfile.ZipFile(target) as file:
        assert file.testzip() is None
        assert len(json.loads(file.read("record.json"))["events"]) == told["events"]
    again = exported(config, "--to", target)
    assert (again.code, "is there already" in again.err) == (1, True)


def test_who_exports_is_told_of_forgeries_and_holds(config: Path, tmp_path: Path) -> None:
    nameless = "SELECT id, reference FROM event WHERE user_ref IS NULL AND reference IS NOT NULL"
    number, reference = read(config, f"{nameless} ORDER BY id LIMIT 1")[0]
    forged = "UPDATE event SET user_ref = 'mallory', reference = ? WHERE id = ?"
    with changing(recorded_in(config)) as database:
        (last,) = database.execute("SELECT max(id) FROM event").fetchone()
        database.execute(forged, [reference, last])
    of_mallory = ("--user-ref", "mallory", "--config", config)
    done = run("person", "export", *of_mallory, "--to", tmp_path / "1.zip", "--json")
    assert json.loads(done.out)["nameless_ids"] == [number]
    assert "a forged webhook may have put beside this user_ref" in done.err
    assert "hold" not in done.err
    assert run("person", "hold", *of_mallory).code == 0
    told = run("person", "export", *of_mallory, "--to", tmp_path / "2.zip").err
    assert "It mentions 1 legal hold, and the reason: may the person know that?" in told


def test_what_is_on_record_of_it_names_nobody(config: Path, tmp_path: Path) -> None:
    ((user_ref,),) = read(config, USER)
    words = ("person", "export", "--user-ref", "-", "--to", tmp_path / "x", "--config", config)
    nobody = run(*words, stdin=b"hush-user\n")
    assert (nobody.code, "hush-user" in nobody.err) == (1, False)
    assert not (tmp_path / "x").exists()
    done = run(*words, stdin=f"{user_ref}\n".encode())
    assert (done.code, user_ref in done.out + done.err) == (0, False)
    recorded = read(config, "SELECT note FROM operator_action WHERE action = 'export'")
    assert user_ref not in json.dumps(recorded)


@pytest.mark.parametrize("can_be_nameless", [True, False])
def test_a_file_is_whole_or_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_be_nameless: bool
) -> None:
    if not can_be_nameless:  # as on NFS
        monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY)
    with new_file(tmp_path / "whole") as file:
        file.write(b"all")
        assert not (tmp_path / "whole").exists()
    assert (tmp_path / "whole").read_bytes() == b"all"
    with pytest.raises(KeyError), new_file(tmp_path / "part"):
        raise KeyError("else")
    with pytest.raises(CannotWriteError, match="is there already"), new_file(tmp_path / "late"):
        (tmp_path / "late").write_text("of another")
    assert (tmp_path / "late").read_text() == "of another"
    with pytest.raises(CannotWriteError, match="No such file"), new_file(tmp_path / "no" / "x"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "late"}
    assert (tmp_path / "whole").stat().st_mode & 0o777 == 0o600
