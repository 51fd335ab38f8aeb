"""A daemon with `identity: sealed`, and what commands say beside it. It is a process, as its files,
its log and its exit status are what is looked at."""

import base64
import json
import signal
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support import prembly_api
from tests.support.commands import run
from tests.support.configuration import shell
from tests.support.daemon import Premblyd
from tests.support.forking import Forked
from tests.support.prembly_api import PremblyApi, Shape
from tests.support.reconciling import HOUR_S
from tests.support.sealing import KEY
from tests.support.waiting import wait_until

pytestmark = pytest.mark.sqlite  # its files are looked into; the canary campaign looks at tables
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
        assert (code, "rekey --names`" in words) == (78, True)
        checked = run("check", "--json", "--config", tmp_path / "premblyd.yaml")
        assert (checked.code, json.loads(checked.out)["ok"]) == (78, False)
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
        assert told(tmp_path, "check")["ok"]
        assert traces(tmp_path) == []
        daemon.start()
        [event] = told(tmp_path, "events", "--reference", "hush-reference")
        assert event["user_ref"] == "hush-user"
        (tmp_path / "got").unlink()
        assert run("replay", "1", "--config", tmp_path / "premblyd.yaml").code == 0
        daemon.wait_for_rows([("succeeded", 2)], "SELECT state, attempt_count FROM delivery")
        assert (tmp_path / "got").read_text() == "hush-reference hush-user\n"
        assert traces(tmp_path) == []


KILLED = """
import os
from premblyd.keep import sealnames
calls = []

def transact(database, work):
    def killed(transaction):
        found = work(transaction)
        calls.append(None)
        if len(calls) == 2:
            os.kill(os.getpid(), 9)
        return found
    return whole(database, killed)

sealnames.PORTION, whole, sealnames.transact = 3, sealnames.transact, transact
"""
SMALL = "from premblyd.keep import sealnames; sealnames.PORTION = 3"


def test_what_was_killed_in_the_middle_goes_on_and_no_daemon_starts(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "key").chmod(0o600)
    action = shell("keep", "true", once="reference")
    with Premblyd(tmp_path, actions=[action]) as daemon:
        daemon.start()
        for number in range(10):
            daemon.send(BODY.replace(b"hush-", b"hush-%d-" % number))
        daemon.wait_for_rows([("succeeded", 10)], "SELECT state, count(*) FROM delivery GROUP BY 1")
        assert daemon.stop() == 0
        daemon.configure(actions=[action], encryption=SEALED)
        names = ["rekey", "--names", "--config", str(daemon.config)]
        with Forked(names, before=KILLED) as killed:
            assert killed.wait() == -signal.SIGKILL
        code, words = daemon.fail_to_start()
        assert (code, "rekey --names`" in words) == (75, True)
        assert run("closed", "--user-ref", "x", "--config", daemon.config).code == 75
        with Forked(names, before=SMALL) as process:
            assert process.wait() == 0
        assert traces(tmp_path) == []
        assert not any(b"hush-" in file.read_bytes() for file in tmp_path.glob("premblyd.db*"))
        daemon.start().send(BODY.replace(b"hush-", b"hush-3-") + b" ")
        rows = [("skipped", 1), ("succeeded", 10)]
        daemon.wait_for_rows(rows, "SELECT state, count(*) FROM delivery GROUP BY 1 ORDER BY 1")


def test_prembly_is_asked_by_names_and_told_of_in_none(tmp_path: Path, api: PremblyApi) -> None:
    """By `pending`, by `confirm` and by `reconcile`."""
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "key").chmod(0o600)
    began_s = time.time() - HOUR_S
    known = api.know("hush-reference", user_ref="hush-user", created_at_s=began_s)
    known.status, known.code, known.shape = "PENDING", "02", Shape.WEBHOOK
    settings: dict[str, Any] = {
        "actions": [shell("keep", TELL.format(tmp_path), "00", confirm=True, once="reference")],
        "prembly": {"url": api.url, "api_key": prembly_api.KEY, "rate": 200},
        "pending": {"ask": ["50ms"], "give_up": "1h"},
        "encryption": SEALED,
    }
    with Premblyd(tmp_path, **settings) as daemon:
        daemon.start().send(BODY.replace(b'"00"', b'"02"').replace(b"true", b'"PENDING"'))
        wait_until(lambda: api.asked("hush-reference") >= 2)
        known.status, known.code = "VERIFIED", "00"
        daemon.wait_for_rows([("settled",)], "SELECT state FROM awaited")
        daemon.wait_for_rows([("succeeded",)], DONE)
        assert (tmp_path / "got").read_text().startswith("hush-reference")
        [awaited] = told(tmp_path, "pending")
        assert awaited["reference"] == "hush-reference"
        assert told(tmp_path, "pending", "--reference", "hush-reference") == [awaited]
        assert told(tmp_path, "reconcile", "--since", "1d")["missing"] == 0
        api.know("hush-lost", created_at_s=began_s)
        lost = run("reconcile", "--since", "1d", "--json", "--config", daemon.config)
        assert [each["reference"] for each in json.loads(lost.out)["absent"]] == ["hush-lost"]
        stored = run("reconcile", "--since", "1d", "--store", "--config", daemon.config)
        assert stored.code == 0, stored
        found = told(tmp_path, "events", "--reference", "hush-lost")
        assert [each["reference"] for each in found] == ["hush-lost"]
        wait_until(lambda: daemon.rows(DONE) == [("succeeded",)] * 2)
        day = datetime.fromtimestamp(began_s, UTC).date()
        certified = run("certify", "--day", day, "--json", "--config", daemon.config)
        total = json.loads(certified.out)["total"]
        assert (total["in_record"], total["missing"], total["unconfirmed"]) == (2, 0, 0)
        assert "hush" not in certified.out
        assert traces(tmp_path) == []
        assert [
            file.name for file in tmp_path.glob("premblyd.db*") if b"hush-lost" in file.read_bytes()
        ] == []
        assert daemon.stop() == 0
        assert "hush" not in daemon.log_text()
