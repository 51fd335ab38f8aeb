"""Worker hooks in a daemon: in a process of its own, as they are started and reloaded by it."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.features.worker.working import ANSWERS_OK, WAIT, shell
from tests.support.commands import run
from tests.support.daemon import Premblyd
from tests.support.waiting import wait_until
from tests.support.webhooks import BODY

pytestmark = pytest.mark.process

STATES = "SELECT state, attempts_left FROM delivery ORDER BY id"


def worker(program: list[str], **keys: Any) -> dict[str, Any]:
    own = {"name": "tell", "response_codes": ["*"], "worker": program, "concurrency": 1}
    return own | {"retry": {"attempts": 3}, **keys}


def succeeded(daemon: Premblyd) -> list[str]:
    """Return what those attempts printed that succeeded: the numbers of their processes."""
    rows = daemon.rows("SELECT output FROM attempt WHERE outcome = 'succeeded' ORDER BY id")
    return [output for (output,) in rows]


def test_what_waits_for_its_process_is_not_given_when_its_person_is_erased(tmp_path: Path) -> None:
    """However long that takes to start; what comes later of the person is, and names nobody."""
    go, given = tmp_path / "go", tmp_path / "given"
    program = shell('echo "$line" >>"$GIVEN"; echo "ok $n" >&4', first=WAIT)
    tell = worker(program, env={"GO": str(go), "GIVEN": str(given)}, erased="run")
    with Premblyd(tmp_path, actions=[tell]) as daemon:
        daemon.start()
        daemon.send(BODY)
        daemon.wait_for_rows([("running", 2)], STATES)
        arguments = ("--reference", "r-1", "--yes", "--config", daemon.config)
        assert run("person", "erase", *arguments).code == 0
        daemon.send(BODY + b" ")
        go.touch()
        daemon.wait_for_rows([("cancelled", 3), ("succeeded", 2)], STATES)
        [line] = map(json.loads, given.read_text().splitlines())
        assert (line["delivery"], line["erased"], line["body"]) == (2, True, None)


def test_a_reload_replaces_processes_of_what_has_changed(tmp_path: Path) -> None:
    program = ANSWERS_OK
    plain, changed = worker(program), worker(program, env={"CHANGED": "yes"})
    with Premblyd(tmp_path, actions=[plain]) as daemon:
        daemon.start()

        def deliver(number: int) -> str:
            """Have a delivery run; return which process had it."""
            daemon.send(b'{"number": %d}' % number)
            wait_until(lambda: len(succeeded(daemon)) == number)
            return succeeded(daemon)[-1]

        first = deliver(1)
        daemon.reload(actions=[plain | {"retry": {"attempts": 5}}])
        assert deliver(2) == first
        daemon.reload(actions=[changed])
        assert deliver(3) != first
