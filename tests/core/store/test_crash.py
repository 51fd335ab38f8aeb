"""kill -9 at every moment: what was answered is kept, what had finished is not run again."""

import http.client
from pathlib import Path

import pytest

from tests.support.configuration import AT_ONCE, shell
from tests.support.daemon import Premblyd
from tests.support.processes import runs
from tests.support.requests import Answer
from tests.support.waiting import wait_until

# They look into a file, and take it away, lock it and cut it off.
pytestmark = [pytest.mark.sqlite, pytest.mark.process]
BODY = b'{"response_code":"00","reference":"r-1"}'
DELIVERY = "SELECT state, attempt_count, attempts_left FROM delivery ORDER BY id"
ATTEMPTS = "SELECT number, outcome FROM attempt ORDER BY id"
AGAIN = ["interrupted", "succeeded"]
CRASHED = "the daemon stopped while the hook ran"
# Python that runs before the program, so that it dies at one exact place.
DIE = """
import os, signal
from premblyd.run import dispatcher, shell
from premblyd.receive import exchange
from premblyd.queue import arrivals, inbox, queue

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def then_die(work):
    return lambda *given: (work(*given), die())
"""


def recording(folder: Path, script: str = "", **more: object) -> dict[str, object]:
    """Return an action that records each run as event/attempt, then does `script`."""
    record = f'echo "$PREMBLY_EVENT/$PREMBLY_ATTEMPT" >> {folder}/ran'
    return shell("record", f"{record}; {script}", retry=AT_ONCE, **more)


def ran(folder: Path) -> list[str]:
    path = folder / "ran"
    return path.read_text().split() if path.exists() else []


def try_to_send(daemon: Premblyd, body: bytes = BODY, **more: str) -> Answer | None:
    """Send a webhook; None when the daemon dies over it."""
    try:
        return daemon.send(body, **more)
    except (OSError, http.client.HTTPException):
        return None


@pytest.mark.promise
@pytest.mark.parametrize(
    ("place", "after_crash", "recorded", "outcomes"),
    [
        (
            "exchange.Exchange._answer = then_die(exchange.Exchange._answer)",
            *([("pending", 0, 3)], ["1/1"], ["succeeded"]),
        ),
        ("queue.usable_event = die", [("pending", 0, 3)], ["1/1"], ["succeeded"]),
        ("shell.ShellRunner.run = die", *([("running", 1, 2)], ["1/2"], AGAIN)),
        ("queue.Queue.finish = die", *([("running", 1, 2)], ["1/1", "1/2"], AGAIN)),
        ("dispatcher._tell_finished = die", [("succeeded", 1, 2)], ["1/1"], ["succeeded"]),
    ],
    ids=["right after the 200", "in the claim", "after the claim", "hook ended", "hook finished"],
)
def test_what_was_answered_runs_after_a_crash_and_what_had_finished_does_not(
    tmp_path: Path,
    place: str,
    after_crash: list[tuple[object, ...]],
    recorded: list[str],
    outcomes: list[str],
) -> None:
    with Premblyd(tmp_path, actions=[recording(tmp_path)]) as daemon:
        daemon.start(DIE + place)
        answer = try_to_send(daemon)
        assert answer
        assert answer.json == {"status": "received", "event": 1, "duplicate": False}
        assert daemon.process.wait() == -9
        assert daemon.rows(DELIVERY) == after_crash
        daemon.start()
        daemon.wait_for_rows([("succeeded", len(outcomes), 3 - len(outcomes))], DELIVERY)
        assert daemon.rows(ATTEMPTS) == [*enumerate(outcomes, 1)]
        assert daemon.rows("SELECT body FROM event") == [(BODY,)]
        assert daemon.send(BODY).json["duplicate"]
        assert daemon.stop() == 0
    assert ran(tmp_path) == recorded


@pytest.mark.promise
def test_a_hook_cut_short_is_gone_marked_interrupted_and_run_again(tmp_path: Path) -> None:
    wait = f"while test ! -e {tmp_path}/go; do sleep 0.02; done"
    with Premblyd(tmp_path, actions=[recording(tmp_path, f"echo begun; {wait}")]) as daemon:
        daemon.start()
        assert daemon.send(BODY).status == 200
        wait_until(lambda: ran(tmp_path))
        hooks = daemon.hooks()
        daemon.kill()
        assert daemon.rows("SELECT outcome, finished_at_ms FROM attempt") == [(None, None)]
        (tmp_path / "ran").unlink()
        daemon.start()
        wait_until(lambda: ran(tmp_path) == ["1/2"])
        wait_until(lambda: not any(runs(hook) for hook in hooks))  # not two at once
        (tmp_path / "go").touch()
        daemon.wait_for_rows([("succeeded", 2, 1)], DELIVERY)
        assert daemon.rows("SELECT number, outcome, error, output FROM attempt ORDER BY id") == [
            (1, "interrupted", CRASHED, None),
            (2, "succeeded", None, "begun\n"),
        ]
        assert daemon.rows("SELECT count(DISTINCT worker) FROM attempt") == [(2,)]
        assert daemon.log("daemon.started")[0]["recovered_deliveries"] == 1
