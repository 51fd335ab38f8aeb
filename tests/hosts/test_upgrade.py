"""Daemons of two versions on one PostgreSQL database, while it is upgraded host by host."""

import signal
from pathlib import Path

import pytest

from premblyd.databases import Server
from tests.support.configuration import shell
from tests.support.daemon import Premblyd
from tests.support.hosts import hosts, new_server
from tests.support.needs import needs_machine
from tests.support.upgrades import COMPATIBLE, INCOMPATIBLE, NAME, NextVersion

pytestmark = pytest.mark.postgresql

STATES = "SELECT state, count(*) FROM delivery GROUP BY state"
HOSTS = "SELECT name, ended FROM host ORDER BY id"
ACTIONS = [shell("crm", "exit 0")]


@pytest.fixture(name="server")
def make_server() -> Server:
    with needs_machine():
        return new_server()


def another(folder: Path, server: Server) -> Premblyd:
    """Return the daemon of another host, which is to be of the next version."""
    (folder / "new").mkdir()
    return Premblyd(
        folder / "new", place=server, hosts={"name": "new", "lost_after": "1s"}, actions=ACTIONS
    )


def test_an_old_daemon_goes_on_and_starts_beside_a_new_one(tmp_path: Path, server: Server) -> None:
    next_version = NextVersion(tmp_path / "next", COMPATIBLE)
    with hosts(tmp_path, "old", server=server, actions=ACTIONS) as (old,):
        assert old.send(b"{}").status == 200
        with another(tmp_path, server) as new:
            new.start(before=next_version.before)
            (line,) = new.log("daemon.started")
            assert line["migrated"] == [NAME]
            new.stop()  # so that the old one runs the hooks too
            assert old.send(b'{"reference": "a"}').status == 200
            old.wait_for_rows([("succeeded", 2)], STATES)
            new.start(before=next_version.before)
            assert old.stop() == 0
            old.start()
            assert [daemon.send(b'{"reference": "b"}').status for daemon in (old, new)] == [200] * 2
            old.wait_for_rows([("succeeded", 3)], STATES)


def test_a_new_daemon_waits_until_the_old_ones_are_stopped(tmp_path: Path, server: Server) -> None:
    next_version = NextVersion(tmp_path / "next", INCOMPATIBLE)
    with (
        hosts(tmp_path, "old", server=server, actions=ACTIONS) as (old,),
        another(tmp_path, server) as new,
    ):
        code, error = new.fail_to_start(next_version.before)
        assert code == 75
        assert f"old (process {old.process.pid}, premblyd " in error
        assert "sudo systemctl stop premblyd" in error
        assert old.send(b"{}").status == 200
        old.wait_for_rows([("succeeded", 1)], STATES)
        assert old.stop() == 0
        new.start(before=next_version.before)
        code, error = old.fail_to_start()
        assert code == 78
        assert f"newer premblyd (it knows {NAME}). Install that version" in error


def test_an_old_daemon_that_slept_through_the_upgrade_ends(tmp_path: Path, server: Server) -> None:
    next_version = NextVersion(tmp_path / "next", INCOMPATIBLE)
    with hosts(tmp_path, "old", server=server, actions=ACTIONS) as (old,):
        old.process.send_signal(signal.SIGSTOP)
        with another(tmp_path, server) as new:
            new.start(
                before="from premblyd.engines.postgresql import beacon\n"
                f"beacon.WATCHED_S = 2\n{next_version.before}"
            )
            old.process.send_signal(signal.SIGCONT)
            assert old.process.wait() == 1
            assert "SchemaError" in old.log_text()
            assert sorted(new.rows(HOSTS)) == [("new", None), ("old", "lost")]
