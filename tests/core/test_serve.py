"""`premblyd serve` as a process: how it stops, reloads, refuses to start, and listens."""

import contextlib
import json
import os
import socket
import stat
from pathlib import Path
from signal import SIGALRM, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, Signals
from typing import Any

import psutil
import pytest

from premblyd.config.values import Listen
from premblyd.receive.listening import listen_at, why_not
from tests.support.configuration import ONCE, shell
from tests.support.daemon import Premblyd
from tests.support.processes import VISIBLE, runs
from tests.support.users import OBEYING_MODES
from tests.support.waiting import wait_until
from tests.support.webhooks import head, signed

pytestmark = pytest.mark.process

BODY = b'{"response_code":"00"}'
DELIVERY = "SELECT state, attempt_count, attempts_left FROM delivery ORDER BY id"


def waiting(folder: Path, **more: Any) -> dict[str, Any]:
    """Return an action that runs until there is a file `go`."""
    return shell("wait", f"while test ! -e {folder}/go; do sleep 0.02; done; echo done", **more)


@pytest.mark.promise
@pytest.mark.parametrize("number", [SIGTERM, SIGINT])
def test_it_answers_and_lets_hooks_end_before_it_stops(tmp_path: Path, number: Signals) -> None:
    with Premblyd(tmp_path, actions=[waiting(tmp_path)]) as daemon:
        host, _, port = daemon.start().address.partition(":")
        daemon.send(BODY)
        wait_until(daemon.hooks)
        with socket.create_connection((host, int(port))) as client:
            asked = {"Expect": "100-continue", "Content-Length": str(len(BODY))}
            client.sendall(head(signed(BODY) | asked))
            assert client.recv(4096).startswith(b"HTTP/1.1 100 ")  # it has begun with it
            client.sendall(BODY[:-1])
            daemon.signal(number)
            wait_until(lambda: daemon.log("daemon.stopping"))
            with pytest.raises(ConnectionRefusedError):
                daemon.send(BODY)
            client.sendall(BODY[-1:])
            assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
        (tmp_path / "go").touch()
        assert daemon.process.wait() == 0
        assert daemon.rows(DELIVERY) == [("succeeded", 1, 9), ("pending", 0, 10)]
        assert daemon.rows("SELECT outcome, output FROM attempt") == [("succeeded", "done\n")]
        assert daemon.log("daemon.stopped")
        assert daemon.log("config.reloaded") == []


@pytest.mark.promise
def test_a_hook_that_outlasts_the_stop_is_interrupted_and_runs_again(tmp_path: Path) -> None:
    action = waiting(tmp_path, retry=ONCE)
    with Premblyd(tmp_path, actions=[action], stop_timeout="1h") as daemon:
        daemon.start().send(BODY)
        hooks = wait_until(daemon.hooks)
        daemon.reload(actions=[action], stop_timeout="0s")  # a stop goes by the last reload
        assert daemon.stop() == 0
        assert not any(runs(hook) for hook in hooks)
        assert daemon.rows(DELIVERY) == [("pending", 1, 1)]
        (tmp_path / "go").touch()
        daemon.start()
        daemon.wait_for_rows([("succeeded", 2, 0)], DELIVERY)
        assert daemon.rows("SELECT outcome, error FROM attempt ORDER BY id") == [
            ("interrupted", "the daemon was stopped"),
            ("succeeded", None),
        ]


@pytest.mark.promise
@pytest.mark.sqlite  # a server is for any number of them
def test_a_second_daemon_on_the_same_database_is_refused(tmp_path: Path) -> None:
    with Premblyd(tmp_path) as daemon:
        daemon.start()
        status, said = daemon.fail_to_start()
        line, text = said.splitlines()
        assert (status, text.partition(".")[0]) == (
            75,
            f"Another premblyd uses {tmp_path}/premblyd",
        )
        logged = json.loads(line)  # for whoever reads only the log's own lines
        assert (logged["reason"], logged["exit_code"]) == (text, 75)
        assert daemon.send(BODY).status == 200
        daemon.kill()
        daemon.start()  # the lock of a dead one is no obstacle
        assert daemon.send(BODY, token="2").status == 200


def be_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def test_webhooks_are_answered_while_a_reload_reads(tmp_path: Path) -> None:
    """By a pipe into which nobody writes yet, as a file that takes long to read. What was changed
    meanwhile is read by another reload."""
    with Premblyd(tmp_path) as daemon:
        daemon.start()
        settings = daemon.config.read_bytes()
        be_a_pipe(daemon.config)
        daemon.signal(SIGHUP)
        assert [daemon.send(BODY, token=str(number)).status for number in range(5)] == [200] * 5
        with daemon.config.open("wb") as pipe:  # it reads now
            daemon.signal(SIGHUP)
            assert daemon.send(BODY, token="later").status == 200
            pipe.write(settings)
        wait_until(lambda: daemon.log("config.reloaded"))
        daemon.config.write_bytes(settings)
        wait_until(lambda: len(daemon.log("config.reloaded")) == 2)
        assert daemon.stop() == 0


@pytest.mark.promise
def test_sighup_takes_a_good_file_and_leaves_a_bad_one(tmp_path: Path) -> None:
    with Premblyd(tmp_path, actions=[shell("old", "true")]) as daemon:
        daemon.start().send(BODY)
        changed = {"actions": [shell("new", "true")], "endpoint": {"keys": {"k": "other"}}}
        daemon.reload(**changed)
        assert daemon.send(BODY).status == 401
        assert daemon.send(BODY, key="other").status == 200
        daemon.configure(**changed, lisen="x", max_body="lots")
        daemon.signal(SIGHUP)
        (refused,) = wait_until(lambda: daemon.log("config.reload_refused"))
        assert refused["problems"] == 2
        for problem in daemon.log("config.problem"):
            assert problem["problem"].startswith(f"{daemon.config}:")
        assert daemon.send(BODY, key="other").status == 200
        expected = [("old", "succeeded"), ("new", "succeeded"), ("new", "succeeded")]
        daemon.wait_for_rows(expected, "SELECT action, state FROM delivery ORDER BY id")
        daemon.configure(**changed, database="sqlite:///other.db")
        daemon.signal(SIGHUP)
        (line_,) = wait_until(lambda: daemon.log("config.needs_restart"))
        assert line_["setting"] == "database"
        assert daemon.stop() == 0


def test_no_other_signal_ends_it_and_a_hangup_at_the_start_is_a_reload(tmp_path: Path) -> None:
    with Premblyd(tmp_path) as daemon:
        daemon.start(HANGUP_AT_IMPORT, is_executed=True)
        wait_until(lambda: daemon.log("config.reloaded"))  # the file may have changed meanwhile
        for number in (SIGUSR1, SIGUSR2, SIGALRM) * 2:
            daemon.signal(number)
        assert daemon.send(BODY).status == 200
        assert daemon.stop() == 0


def test_a_bad_configuration_is_refused_with_every_place(tmp_path: Path) -> None:
    daemon = Premblyd(tmp_path, place=tmp_path / "premblyd.db")  # there is none yet
    keys = "{k: {env: PREMBLYD_TEST_UNSET}}"
    endpoints = f"endpoints:\n  - {{name: a, path: /a, keys: {keys}}}\n"
    daemon.config.write_text(f"database: sqlite:///premblyd.db\nlissen: x\n{endpoints}")
    status, said = daemon.fail_to_start()
    line, *texts = said.splitlines()
    assert (status, json.loads(line)["problems"]) == (78, 2)
    assert texts == [
        f"{daemon.config}:2:1: unknown key `lissen`; did you mean `listen`?",
        f"{daemon.config}:4:35: the environment variable PREMBLYD_TEST_UNSET is not set",
    ]
    assert not (tmp_path / "premblyd.db").exists()


def test_a_port_in_use_is_said_and_not_waited_for(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        status, said = Premblyd(tmp_path, listen=address).fail_to_start()
    reason = "Address already in use; `sudo ss -ltnp` shows which program"
    assert (status, said.splitlines()[-1]) == (1, f"Can't listen on {address}: {reason}")


def test_a_socket_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with socket.socket(socket.AF_UNIX) as other, socket.socket(socket.AF_UNIX) as client:
        other.bind(str(tmp_path / "live"))
        other.listen()
        reasons = {"file": "in use", "live": "Address already in use", "no/s": "No such file"}
        for place, reason in reasons.items():
            assert f"{place}: {reason}" in (why_not(Listen(unix_path=str(tmp_path / place))) or "")
        client.connect(str(tmp_path / "live"))  # another server's socket is left alone


def test_a_stop_removes_the_socket_that_it_made_and_no_other(tmp_path: Path) -> None:
    own = tmp_path / "own"
    for has_taken_place in (False, True):
        listening = listen_at(Listen(unix_path=str(own)))
        if has_taken_place:
            own.unlink()
            own.touch()
        listening.close()
        assert own.exists() == has_taken_place


@pytest.mark.sqlite  # a server's files are its own
def test_what_only_somebody_can_mend_ends_the_start_for_good(tmp_path: Path) -> None:
    """... so that systemd does not start it over and over: exit 78."""
    daemon = Premblyd(tmp_path, place=tmp_path / "premblyd.db")
    ends = [f"Can't use {tmp_path} for the database", f"{daemon.config}:1:1: can't be read"]
    for closed, mode, end in zip((tmp_path, daemon.config), (0o555, 0), ends, strict=True):
        before = closed.stat().st_mode
        closed.chmod(mode)
        status, said = daemon.fail_to_start(prefix=OBEYING_MODES)
        closed.chmod(before)
        assert (status, said.splitlines()[-1]) == (78, f"{end}: Permission denied")


HANGUP_AT_IMPORT = """
import os, signal, sys
class Finder:
    def find_spec(self, name, *_):
        if name == "premblyd.process":
            os.kill(os.getpid(), signal.SIGHUP)
sys.meta_path.insert(0, Finder())
"""


@pytest.mark.parametrize("mask", [0, 0o077])
def test_a_unix_socket_is_open_to_its_group_and_nobody_else(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        listening = listen_at(Listen(unix_path=str(tmp_path / "s")))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o660
    listening.close()


def test_it_listens_on_a_unix_socket_also_after_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with Premblyd(tmp_path, listen=f"unix:{path}") as daemon:
        daemon.start()
        assert daemon.address == f"unix:{path}"
        assert daemon.send(BODY).status == 200
        daemon.kill()
        assert path.exists()
        daemon.start()
        assert daemon.send(BODY, token="2").status == 200
        assert daemon.rows("SELECT DISTINCT remote_ip FROM event") == [("unix",)]
        assert daemon.stop() == 0
    assert not path.exists()


def test_connections_are_bounded_below_the_limit_of_files(tmp_path: Path) -> None:
    few_files = "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))"
    with (
        Premblyd(tmp_path, actions=[shell("act", "true")]) as daemon,
        contextlib.ExitStack() as stack,
    ):
        daemon.start(VISIBLE + few_files, is_executed=True)
        host, _, port = daemon.address.partition(":")
        for number in range(260):
            client = stack.enter_context(socket.create_connection((host, int(port))))
            if number % 2:
                client.sendall(b"POST")
        assert [daemon.send(BODY, token=str(number)).status for number in range(20)] == [200] * 20
        daemon.wait_for_rows([(20,)], "SELECT count(*) FROM delivery WHERE state = 'succeeded'")
        assert psutil.Process(daemon.process.pid).num_fds() < 200
        assert "Too many open files" not in daemon.log_text()
