"""`premblyd export` of a person, and how its file is written and sealed."""

import errno
import io
import json
import os
import sys
import threading
import zipfile
from pathlib import Path
from typing import Any

import pyrage
import pytest

from premblyd.agefiles import CannotSealError, require_recipients, sealed
from premblyd.newfile import CannotWriteError, new_file
from tests.support.commands import Ran, recorded_in, run
from tests.support.database import changing, rows
from tests.support.rows import for_each

USER = "SELECT user_ref FROM event WHERE user_ref IS NOT NULL ORDER BY id LIMIT 1"
IDENTITY = pyrage.x25519.Identity.generate()
RECIPIENT = str(IDENTITY.to_public())


def of_record(config: Path, sql: str) -> list[tuple[Any, ...]]:
    return rows(recorded_in(config), sql)


def exported(config: Path, *arguments: object) -> Ran:
    ((user_ref,),) = of_record(config, USER)
    return run("export", "--user-ref", user_ref, *arguments, "--config", config)


def test_a_person_is_taken_out_into_a_private_file(config: Path, tmp_path: Path) -> None:
    target = tmp_path / "person.zip"
    done = exported(config, "--to", target, "--json")
    assert done.code == 0
    told = json.loads(done.out)
    assert list(told) == ["events", "others", "doubtful", "nameless", "file", "bytes", "sealed"]
    assert (told["bytes"], told["sealed"]) == (target.stat().st_size, False)
    assert f"{target} is in clear" in done.err
    assert target.stat().st_mode & 0o777 == 0o600
    with zipfile.ZipFile(target) as file:
        assert file.testzip() is None
        assert len(json.loads(file.read("record.json"))["events"]) == told["events"]
    again = exported(config, "--to", target)
    assert (again.code, "is there already" in again.err) == (1, True)


def test_who_takes_a_person_out_is_told_what_a_forger_may_have_added(
    config: Path, tmp_path: Path
) -> None:
    nameless = "SELECT id, reference FROM event WHERE user_ref IS NULL AND reference IS NOT NULL"
    number, reference = of_record(config, f"{nameless} ORDER BY id LIMIT 1")[0]
    forged = "UPDATE event SET user_ref = 'mallory', reference = ? WHERE id = ?"
    with changing(recorded_in(config)) as database:
        (last,) = database.execute("SELECT max(id) FROM event").fetchone()
        database.execute(forged, [reference, last])
    arguments = ("--user-ref", "mallory", "--to", tmp_path / "m.zip", "--json")
    done = run("export", *arguments, "--config", config)
    assert json.loads(done.out)["nameless"] == [number]
    assert "a forged webhook may have put that beside this user_ref" in done.err


def test_who_takes_a_held_person_out_is_told_that_it_says_so(config: Path, tmp_path: Path) -> None:
    assert "hold" not in exported(config, "--to", tmp_path / "before.zip").err
    ((user_ref,),) = of_record(config, USER)
    assert run("hold", "--user-ref", user_ref, "--config", config).code == 0
    told = exported(config, "--to", tmp_path / "after.zip").err
    assert "It tells of 1 hold, and why: is the person allowed to know that?" in told


def test_what_is_on_record_of_it_names_nobody(config: Path, tmp_path: Path) -> None:
    ((user_ref,),) = of_record(config, USER)
    arguments = ("--to", tmp_path / "person.zip", "--config", config)
    done = run("export", "--user-ref", "-", *arguments, stdin=f"{user_ref}\n".encode())
    assert (done.code, user_ref in done.out + done.err) == (0, False)
    recorded = of_record(config, "SELECT note FROM operator_action WHERE action = 'export'")
    assert user_ref not in json.dumps(recorded)
    nobody = run("export", "--user-ref", "hush-user", "--to", tmp_path / "x", "--config", config)
    assert (nobody.code, "hush-user" in nobody.err) == (1, False)
    assert not (tmp_path / "x").exists()


def test_what_is_sealed_is_read_by_its_recipients_alone(config: Path, tmp_path: Path) -> None:
    target = tmp_path / "person.zip.age"
    other = pyrage.x25519.Identity.generate()
    seal = ("--recipient", RECIPIENT, "--recipient", other.to_public())
    done = exported(config, "--to", target, *seal)
    assert done.code == 0
    assert "in clear" not in done.err
    stored = target.read_bytes()
    assert stored.startswith(b"age-encryption.org/v1\n")
    for identity in (IDENTITY, other):
        with zipfile.ZipFile(io.BytesIO(pyrage.decrypt(stored, [identity]))) as file:
            assert "page.html" in file.namelist()
    with pytest.raises(pyrage.DecryptError):
        pyrage.decrypt(stored, [pyrage.x25519.Identity.generate()])


def test_a_table_is_sealed_too(config: Path) -> None:
    arguments = ("export", "--since", "1d", "--format", "jsonl", "--to", "x.age")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(config.parent)
        assert run(*arguments, "--recipient", RECIPIENT, "--config", config).code == 0
    text = pyrage.decrypt((config.parent / "x.age").read_bytes(), [IDENTITY])
    assert len(text.splitlines()) == of_record(config, "SELECT count(*) FROM event")[0][0]


@for_each("recipient", ["age1xyz", "AGE-SECRET-KEY-1HUSH", "ssh-rsa AAAA"])
def test_what_is_no_recipient_is_refused_before_anything_is_done(
    config: Path, tmp_path: Path, recipient: str
) -> None:
    done = exported(config, "--to", tmp_path / "x", "--recipient", recipient)
    assert (done.code, "no recipient of age" in done.err) == (1, True)
    assert "HUSH" not in done.err
    assert of_record(config, "SELECT id FROM operator_action WHERE action = 'export'") == []


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyrage", None)
    with pytest.raises(CannotSealError, match=r"install\.sh --with seal"):
        require_recipients([RECIPIENT])
    require_recipients([])


class FullDisk(io.RawIOBase):
    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_what_fails_while_it_is_sealed_is_told_and_leaves_no_thread() -> None:
    threads = threading.active_count()
    out: Any = FullDisk()
    with pytest.raises(OSError, match="No space left"), sealed(out, [RECIPIENT]) as file:
        file.write(b"x" * 10_000_000)
    with pytest.raises(KeyError), sealed(io.BytesIO(), [RECIPIENT]):
        raise KeyError("else")
    assert threading.active_count() == threads


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
