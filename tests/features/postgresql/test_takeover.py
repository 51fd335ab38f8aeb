"""Daemons that die, stop and come back beside others on one PostgreSQL database."""

import asyncio
import json
import signal
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from premblyd.features.postgresql.settings import Server
from tests.support import postgresql, processes
from tests.support.commands import run
from tests.support.daemon import Premblyd
from tests.support.database import rows
from tests.support.hosts import Runs, by_cable, hosts, new_server
from tests.support.store import Store
from tests.support.waiting import wait_until

pytestmark = pytest.mark.postgresql

# Goes on until there is a file.
SCRIPT = """
echo "$PREMBLY_DELIVERY $PREMBLY_ATTEMPT $PREMBLY_WORKER" >> {runs}
while ! test -e GO; do sleep 0.1; done
"""
HOSTS = "SELECT name, ended FROM host ORDER BY id"


@pytest.fixture(name="server")
def make_server() -> Server:
    return new_server()


@pytest.fixture(name="runs")
def make_runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


def shown(daemon: Premblyd, *missing: str) -> list[str]:
    """Let `status` tell who lives: all but those `missing`. Return what needs attention."""
    status = json.loads(run("status", "--config", daemon.config, "--json").out)
    assert {host["name"] for host in status["hosts"]} == {"a", "b"}.difference(missing)
    assert status["daemon"]["pid"] == daemon.process.pid
    return [item["kind"] for item in status["attention"] if item["kind"] == "host"]


def first_on(daemons: list[Premblyd], runs: Runs) -> tuple[Premblyd, Premblyd]:
    """Send a webhook; return the daemon that runs its hook, and the other one."""
    daemons[0].send(b"{}")
    (name,) = wait_until(runs.workers)
    return (daemons[0], daemons[1]) if name == daemons[0].folder.name else (daemons[1], daemons[0])


def test_what_a_killed_host_ran_runs_elsewhere(tmp_path: Path, server: Server, runs: Runs) -> None:
    with hosts(tmp_path, "a", "b", server=server, actions=runs.actions) as daemons:
        victim, other = first_on(daemons, runs)
        victim.kill()
        wait_until(lambda: len(runs.workers()) == 2)
        assert runs.workers() == [victim.folder.name, other.folder.name]
        (lost,) = other.logged("host.lost")
        assert lost["name"] == victim.folder.name
        other.wait_for_rows([("succeeded", 2)], "SELECT state, attempt_count FROM delivery")
        assert other.rows("SELECT DISTINCT lost_after_ms FROM host") == [(2000,)]
        assert other.logged("host.first"), "the only one that is left"
        assert shown(other, victim.folder.name) == ["host"]
        victim.start()
        assert shown(other) == []


def test_what_a_killed_host_left_is_gone_at_its_next_start_and_runs_again_once_it_is_lost(
    tmp_path: Path, server: Server, runs: Runs
) -> None:
    with hosts(tmp_path, "a", server=server, actions=runs.actions) as (own,):
        own.send(b"{}")
        wait_until(runs.workers)
        own.kill()
        own.start()
        assert own.log("daemon.started")[-1]["killed_leftovers"] > 0
        own.wait_for_rows([("succeeded", 2)], "SELECT state, attempt_count FROM delivery")


def test_a_stopped_host_comes_back_and_lets_go_of_what_others_run(
    tmp_path: Path, server: Server, runs: Runs
) -> None:
    with hosts(tmp_path, "a", "b", server=server, actions=runs.actions) as daemons:
        victim, other = first_on(daemons, runs)
        (hook, *_) = victim.hooks()
        victim.process.send_signal(signal.SIGSTOP)
        other.wait_for_rows([("succeeded", 2)], "SELECT state, attempt_count FROM delivery")
        assert hook.is_running(), "only the daemon was stopped"
        victim.process.send_signal(signal.SIGCONT)
        wait_until(lambda: victim.log("host.fenced"))
        ended = ("host.fenced", "host.let_go")
        wait_until(
            lambda: sum(line["killed_processes"] for event in ended for line in victim.log(event))
        )
        wait_until(lambda: victim.log("attempt.lease_lost"))
        assert sorted(other.rows(HOSTS)) == [("a", None), ("b", None)]
        assert victim.send(b'{"after": 1}').status == 200
        outcomes = "SELECT outcome FROM attempt WHERE delivery_id = 1 ORDER BY number"
        assert other.rows(outcomes) == [("interrupted",), ("succeeded",)]


def test_a_host_that_slept_between_claim_and_start_starts_nothing_that_others_have(
    tmp_path: Path,
) -> None:
    """So `once` has one effect, and `order` no two at once. Processes, as they are stopped by
    SIGSTOP; the cable keeps the answer to the claim until then."""
    script = 'echo "$PREMBLY_DELIVERY 1 $PREMBLY_WORKER" >> {runs}'
    runs = Runs(tmp_path, script, once="reference", order="reference")
    with ExitStack() as opened:
        cable, server, far = opened.enter_context(by_cable(tmp_path, actions=runs.actions))
        cable.hold_answers(b'INTO "attempt"', b"COMMIT")
        with asyncio.Runner() as runner:
            store = Store(server, runner.get_loop())
            store.add("hook")
            store.close()
        wait_until(lambda: rows(server, "SELECT worker FROM attempt"))
        far.process.send_signal(signal.SIGSTOP)
        cable.mend()
        (near,) = opened.enter_context(hosts(tmp_path, "b", server=server, actions=runs.actions))
        near.wait_for_rows([("succeeded", 2)], "SELECT state, attempt_count FROM delivery")
        far.process.send_signal(signal.SIGCONT)
        wait_until(lambda: far.log("attempt.lease_lost"))
        assert runs.workers() == ["b"]


def test_a_host_that_is_cut_off_is_lost_and_comes_back(tmp_path: Path, runs: Runs) -> None:
    with ExitStack() as opened:
        cable, server, far = opened.enter_context(by_cable(tmp_path, actions=runs.actions))
        far.send(b"{}")
        wait_until(runs.workers)
        (near,) = opened.enter_context(hosts(tmp_path, "b", server=server, actions=runs.actions))
        wait_until(lambda: far.log("host.seen"))
        cable.cut()
        near.wait_for_rows([("succeeded", 2)], "SELECT state, attempt_count FROM delivery")
        assert runs.workers() == ["a", "b"]
        assert far.logged("host.let_go"), "before the other host called it lost"
        hooks = [each for each in far.hooks() if processes.runs(each)]
        assert not hooks, "what it ran has not run on beside that"
        cable.mend()
        wait_until(lambda: far.log("host.fenced"))
        wait_until(lambda: far.log("attempt.lease_lost"))
        wait_until(lambda: far.send(b'{"after": 1}').status == 200)
        near.wait_for_rows([("a", None), ("b", None)], HOSTS)


def test_no_host_is_lost_when_the_database_was_away(tmp_path: Path) -> None:
    """And a hook that ended meanwhile is reported, not run again."""
    runs = Runs(tmp_path, SCRIPT.replace("GO", str(tmp_path / "go")))
    with postgresql.cluster(fsync="off") as cluster:
        cluster.start()
        server = postgresql.new_database(cluster)
        with hosts(tmp_path, "a", "b", server=server, actions=runs.actions) as daemons:
            daemons[0].send(b"{}")
            wait_until(runs.workers)
            cluster.stop("immediate")
            (tmp_path / "go").touch()
            for daemon in daemons:
                wait_until(partial(daemon.log, "host.cut_off"))
            time.sleep(2.5)  # longer than lost_after
            cluster.start()
            for daemon in daemons:
                wait_until(partial(daemon.log, "host.in_touch"))
            beats = "SELECT min(beat_count) FROM host"
            ((before,),) = daemons[0].rows(beats)
            wait_until(lambda: daemons[0].rows(beats)[0][0] > before + 15)
            for daemon in daemons:
                assert daemon.log("host.lost") == daemon.log("host.fenced") == []
            delivery = "SELECT state, attempt_count FROM delivery"
            daemons[0].wait_for_rows([("succeeded", 1)], delivery)
            assert len(runs.workers()) == 1


# What one host stores, an idle slot of another runs at once, by whichever clocks they have.

# The first event's hook goes on for long, so that its host has no slot for the others.
BUSY = """
echo "$PREMBLY_DELIVERY $PREMBLY_ATTEMPT $PREMBLY_WORKER" >> {runs}
test "$PREMBLY_EVENT" != 1 || sleep 300
"""


def test_an_idle_slot_of_another_host_runs_at_once_what_was_stored_here(
    tmp_path: Path, server: Server
) -> None:
    """It is told of them: neither looks by itself."""
    patient = "from premblyd.run import dispatcher; dispatcher.POLL_S = 3600.0"
    runs = Runs(tmp_path, BUSY)
    with hosts(tmp_path, "a", "b", server=server, before=patient, actions=runs.actions) as daemons:
        busy, idle = first_on(daemons, runs)
        for number in range(2, 7):
            assert busy.send(b"%d" % number).status == 200
            wait_until(lambda: len(runs.workers()) == number)  # noqa: B023 (called at once)
        assert runs.workers()[1:] == [idle.folder.name] * 5
