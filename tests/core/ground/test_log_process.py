"""The daemon's own standard error: nobody reads it, its disk is full, it is closed, it is stuck."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from signal import SIGTERM
from typing import IO, Any

import pytest

from tests.support.configuration import AT_ONCE, ONCE, shell
from tests.support.daemon import Premblyd
from tests.support.http_server import answering
from tests.support.processes import VISIBLE
from tests.support.requests import request
from tests.support.waiting import wait_until
from tests.support.webhooks import PATH, signed

pytestmark = pytest.mark.process

BODY = b'{"response_code":"00","reference":"%d"}'


@pytest.fixture
def pipe() -> tuple[int, int]:
    """A page long: what is logged of a dozen webhooks fills it."""
    reader, end = os.pipe()
    fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, 4096)
    return reader, end


@contextmanager
def logging_to(
    folder: Path, stderr: int | IO[Any], prefix: Sequence[str] = ()
) -> Iterator[tuple[str, Any]]:
    """Run a daemon with such a standard error; yield its address and its process."""
    address = f"unix:{folder}/s"
    daemon = Premblyd(folder, listen=address, actions=[shell("act", "true")])
    process = daemon.spawn(stderr, VISIBLE, prefix=prefix)
    try:
        wait_until(lambda: listens(folder / "s"))
        yield address, process
    finally:
        process.kill()
        process.wait()


def listens(path: Path) -> bool:
    """Return whether somebody listens on a socket: it has its name a moment earlier."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def send(address: str, count: int) -> None:
    for number in range(count):
        body = BODY % number
        assert request(address, "POST", PATH, body, signed(body)).status == 200


def stop(process: Any) -> None:
    """End it. What waited for the log would never end."""
    process.send_signal(SIGTERM)
    assert process.wait() == 0


def test_a_log_that_nobody_reads_stops_nothing(tmp_path: Path, pipe: tuple[int, int]) -> None:
    reader, end = pipe
    with logging_to(tmp_path, end) as (address, process):
        os.close(end)
        send(address, 40)
        stop(process)
    got = b""
    while piece := os.read(reader, 65536):
        got += piece
    os.close(reader)
    assert "daemon.started" in [json.loads(line)["event"] for line in got.splitlines()[:3]]
    assert got.count(b"webhook.received") < 40, "the pipe was never full"


def test_a_closed_standard_error_stops_nothing_and_is_no_file_of_ours(tmp_path: Path) -> None:
    closing = ["/bin/sh", "-c", 'exec "$@" 2>&-', "sh"]
    with logging_to(tmp_path, 2, closing) as (address, process):
        send(address, 5)
        assert os.readlink(f"/proc/{process.pid}/fd/2") == "/dev/null"
        stop(process)


FAULT = """
from premblyd.run.dispatcher import Dispatcher
async def fail(self):
    raise ValueError("hush")
Dispatcher.run = fail
"""


def test_a_daemon_that_fails_leaves_its_last_lines_and_no_text_of_the_fault(tmp_path: Path) -> None:
    with Premblyd(tmp_path) as daemon:
        daemon.start(FAULT)
        assert daemon.process.wait() == 1
        *lines, last = daemon.log_text().splitlines()
    logged = [json.loads(line) for line in lines if '"event":"host.' not in line]
    assert [line["event"].removeprefix("daemon.") for line in logged] == [
        "started",
        "failed",
        "stopping",
        "stopped",
    ]
    assert (logged[1]["part"], logged[1]["exception"]) == ("dispatcher", "ValueError")
    assert last == "A part of the daemon failed; the log says which."
    assert "hush" not in str(lines)


@pytest.mark.promise
def test_what_a_target_answers_never_reaches_the_log(tmp_path: Path) -> None:
    head = b"HTTP/1.1 200 hush\r\nhush 1: hush\r\n: hush\r\nX: hush\xff\x01\r\n\r\nhush\xff"
    with answering(head) as target:
        url = f"http://{target.address}/hush"
        actions = [
            {"name": "odd", "response_codes": ["*"], "http": {"url": url}, "retry": ONCE},
            shell("ok", "echo hush; exit 1", retry=AT_ONCE),
        ]
        with Premblyd(
            tmp_path, actions=actions, log={"format": "json", "level": "debug"}
        ) as daemon:
            daemon.start()
            for reference in ("221234567890", "4111111111111111", "221:234:567:89", "Hush-hush"):
                body = json.dumps({"reference": reference, "response_code": reference}).encode()
                assert daemon.send(body).status == 200
            ended = "SELECT state, count(*) FROM delivery GROUP BY state ORDER BY state"
            daemon.wait_for_rows([("dead", 4), ("succeeded", 4)], ended)
            assert daemon.stop() == 0
            text = daemon.log_text()
    for hush in ("hush", "Hush", "221234567890", "4111111111111111", "221:234:567:89"):
        assert hush not in text
    assert all(json.loads(line)["event"] for line in text.splitlines())
