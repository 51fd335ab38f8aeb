"""A daemon with `identity: sealed`, and what commands say beside it. It is a process, as its files,
its log and its exit status are what is looked at."""

import base64
import json
from pathlib import Path
from typing import Any

from tests.support.commands import run
from tests.support.configuration import shell
from tests.support.daemon import Premblyd
from tests.support.sealing import KEY

PERSON = {"reference": "hush-reference", "user_ref": "hush-user"}
BODY = json.dumps({"response_code": "00", "status": True, **PERSON}).encode()
SEALED = {"key": {"file": "key"}, "identity": "sealed"}
PLAIN = {"key": {"file": "key"}}
TELL = 'echo "$PREMBLY_REFERENCE $PREMBLY_USER_REF" > {}/got'
DONE = "SELECT state FROM delivery"
NAMES = [name.encode() for name in PERSON.values()]


def traces(folder: Path) -> list[tuple[str, bytes]]:
    """Return in which files of the database a name is, and as what."""
    spelt = {
        *NAMES,
        *(name.decode().encode("utf-16-le") for name in NAMES),
        *(name.hex().encode() for name in NAMES),
        *(base64.b64encode(name).rstrip(b"=")[:-1] for name in NAMES),
    }
    return [
        (file.name, each)
        for file in sorted(folder.glob("premblyd.db*"))
        for each in sorted(spelt)
        if each in file.read_bytes()
    ]


def told(folder: Path, *arguments: object, **options: Any) -> Any:
    done = run(*arguments, "--json", "--config", folder / "premblyd.yaml", **options)
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_hooks_and_people_have_the_names_and_no_file_has(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "key").chmod(0o600)
    action = shell("keep", TELL.format(tmp_path), order={"by": "reference"})
    with Premblyd(tmp_path, actions=[action], encryption=SEALED) as daemon:
        daemon.start().send(BODY)
        daemon.wait_for_rows([("succeeded",)], DONE)
        assert (tmp_path / "got").read_text() == "hush-reference hush-user\n"
        assert traces(tmp_path) == []
        assert "hush" not in daemon.log_text()
        [event] = told(tmp_path, "events", "--reference", "hush-reference")
        assert (event["reference"], event["user_ref"]) == tuple(PERSON.values())
        assert told(tmp_path, "events", "--user-ref", "hush-user") == [event]
        assert told(tmp_path, "events", "--find", "hush-user") == [event]
        assert told(tmp_path, "events", "--user-ref", "hush-userx") == []
        assert told(tmp_path, "show", "1", "--reveal")["reference"] == "hush-reference"
        [delivery] = told(tmp_path, "deliveries")
        assert delivery["reference"] == "hush-reference"
        assert told(tmp_path, "hold", "--user-ref", "hush-user")["events"] == 1
        [hold] = told(tmp_path, "hold", "--list")
        assert hold["user_ref"] == "hush-user"
        assert told(tmp_path, "hold", "--end", "--user-ref", "hush-user")["ended"] == [1]
        assert told(tmp_path, "closed", "--user-ref", "hush-user")["events"] == 1
        archive = tmp_path / "hush.zip"
        told(tmp_path, "export", "--user-ref", "hush-user", "--to", archive)
        assert archive.stat().st_size
        erased = told(tmp_path, "erase", "--user-ref", "hush-user", "--yes")
        assert "hush" not in json.dumps(erased)
        daemon.send(BODY + b" ")
        [_, again] = told(tmp_path, "events")
        assert again["lacks"] == "erased"
        assert traces(tmp_path) == []
        assert daemon.stop() == 0
        daemon.configure(actions=[action], encryption=PLAIN)
        code, words = daemon.fail_to_start()
        assert (code, "identity: sealed" in words) == (78, True)


def test_a_database_in_clear_is_converted_while_no_daemon_works(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "key").chmod(0o600)
    action = shell("keep", TELL.format(tmp_path))
    with Premblyd(tmp_path, actions=[action]) as daemon:
        daemon.start().send(BODY)
        daemon.wait_for_rows([("succeeded",)], DONE)
        assert traces(tmp_path)
        daemon.configure(actions=[action], encryption=SEALED)
        refused = run("rekey", "--names", "--config", tmp_path / "premblyd.yaml")
        assert refused.code == 75, refused
        assert daemon.stop() == 0
        code, words = daemon.fail_to_start()
        assert (code, "premblyd rekey --names" in words) == (78, True)
        assert told(tmp_path, "rekey", "--names", "--dry-run") == {
            "names_in_clear": 1,
            "names": "plain",
        }
        assert told(tmp_path, "rekey", "--names") == {
            "names_sealed": 1,
            "names_in_clear": 0,
            "names": "converted",
        }
        assert told(tmp_path, "rekey", "--names")["names_sealed"] == 0
        assert traces(tmp_path) == []
        daemon.start()
        [event] = told(tmp_path, "events", "--reference", "hush-reference")
        assert event["user_ref"] == "hush-user"
        (tmp_path / "got").unlink()
        assert run("replay", "1", "--config", tmp_path / "premblyd.yaml").code == 0
        daemon.wait_for_rows([("succeeded", 2)], "SELECT state, attempt_count FROM delivery")
        assert (tmp_path / "got").read_text() == "hush-reference hush-user\n"
        assert traces(tmp_path) == []
