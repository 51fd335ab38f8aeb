"""What one host stores, an idle slot of another runs at once, by whichever clocks they have."""

from pathlib import Path

import pytest

from premblyd.databases import Server
from tests.faults.clock import LIBRARY
from tests.support.daemon import Premblyd
from tests.support.hosts import Runs, hosts, new_server
from tests.support.waiting import wait_until

pytestmark = pytest.mark.postgresql

# The first event's hook goes on for long, so that its host has no slot for the others.
BUSY = """
echo "$PREMBLY_DELIVERY $PREMBLY_ATTEMPT $PREMBLY_WORKER" >> {runs}
test "$PREMBLY_EVENT" != 1 || sleep 300
"""
REAL = ("FAKETIME_DONT_FAKE_MONOTONIC", "DONT_FAKE_MONOTONIC")


@pytest.fixture(name="server")
def make_server() -> Server:
    return new_server()


def send_first(daemons: list[Premblyd], runs: Runs) -> tuple[Premblyd, Premblyd]:
    """Send the webhook whose hook goes on for long; return its daemon and the other one."""
    assert daemons[0].send(b"1").status == 200
    (name,) = wait_until(runs.workers)
    return (daemons[0], daemons[1]) if name == daemons[0].folder.name else (daemons[1], daemons[0])


def test_an_idle_slot_of_another_host_runs_at_once_what_was_stored_here(
    tmp_path: Path, server: Server
) -> None:
    """It is told of them: neither looks by itself."""
    patient = "from premblyd.run import dispatcher; dispatcher.POLL_S = 3600.0"
    runs = Runs(tmp_path, BUSY)
    with hosts(tmp_path, "a", "b", server=server, before=patient, actions=runs.actions) as daemons:
        busy, idle = send_first(daemons, runs)
        for number in range(2, 7):
            assert busy.send(b"%d" % number).status == 200
            wait_until(lambda: len(runs.workers()) == number)  # noqa: B023 (called at once)
        assert runs.workers()[1:] == [idle.folder.name] * 5


@pytest.mark.skipif(not LIBRARY.exists(), reason="needs libfaketime (apt-get install faketime)")
def test_clocks_that_differ_by_minutes_do_no_harm(tmp_path: Path, server: Server) -> None:
    """The host whose clock is behind runs at once what the other stores, a retry waits as long as
    it shall, and when one dies the other takes over."""
    script = """
echo "$PREMBLY_DELIVERY $PREMBLY_ATTEMPT $PREMBLY_WORKER" >> {runs}
test "$PREMBLY_EVENT" != 1 || sleep 300
test "$PREMBLY_ATTEMPT" = 2
"""
    # Between 1 and 2 s, of which each host's reading of the server's clock may be some 0.1 s off.
    runs = Runs(tmp_path, script, retry={"attempts": 4, "first_delay": "2s", "factor": 1})
    own = {"LD_PRELOAD": str(LIBRARY)} | dict.fromkeys(REAL, "1")
    environ = {"a": own | {"FAKETIME": "+5m"}, "b": own | {"FAKETIME": "-5m"}}
    with hosts(tmp_path, "a", "b", server=server, environ=environ, actions=runs.actions) as daemons:
        busy, _ = send_first(daemons, runs)
        assert busy.send(b"2").status == 200
        busy.wait_for_rows([("succeeded",)], "SELECT state FROM delivery WHERE event_id = 2")
        sql = """
        SELECT min(started_at_ms) - (SELECT received_at_ms FROM event WHERE id = 2),
               max(started_at_ms) - min(finished_at_ms) FROM attempt WHERE delivery_id = 2
        """
        ((waited, delayed),) = busy.rows(sql)
        assert waited < 60_000, "the clocks are minutes off"
        assert 500 <= delayed < 60_000
        before = len(runs.workers())
        busy.kill()
        wait_until(lambda: len(runs.workers()) > before)
