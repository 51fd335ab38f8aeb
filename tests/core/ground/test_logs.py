"""Log lines: their two forms, and what never gets into one."""

import asyncio
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from premblyd.ground import logs
from premblyd.ground.privacy import DROPPED_LOG_KEYS
from tests.support.logs import FOREIGN, logging_as_before
from tests.support.rows import for_each
from tests.support.waiting import wait_until

ELEVEN = "22123456789"


@pytest.fixture(autouse=True)
def set_up() -> Iterator[None]:
    with logging_as_before():
        yield


def lines(write: Callable[[], object], level: str = "debug") -> list[dict[str, Any]]:
    """Return the JSON lines that `write` logs."""
    stream = StringIO()
    logs.configure("json", level, stream)
    write()
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_is_one_object_a_line() -> None:
    def write() -> None:
        log = logs.get_logger(endpoint="prembly")
        log.info("webhook.received", event_id=17, reference="a\nb")
        log.warning("webhook.rejected")

    first, second = lines(write)
    assert first.pop("timestamp").endswith("Z")
    assert first.pop("endpoint") == "prembly"
    told = {"event": "webhook.received", "level": "info", "event_id": 17, "reference": "a\nb"}
    assert first == told
    assert (second["event"], second["level"]) == ("webhook.rejected", "warning")


def test_the_journal_gets_the_priority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "journal").open("w+") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        logs.configure("auto", "info", stream)
        logs.get_logger().warning("webhook.rejected")
        written = wait_until((tmp_path / "journal").read_text)
    assert written[:3] == "<4>"
    assert json.loads(written[3:])["event"] == "webhook.rejected"


@for_each("log_format", ["json", "console"])
def test_secret_keys_are_redacted_whatever_they_hold(log_format: logs.Format) -> None:
    stream = StringIO()
    logs.configure(log_format, "info", stream)
    forbidden = {"body", "signature", "token", "session_id", "output", "bvn", "nin", "user_ref"}
    assert forbidden <= DROPPED_LOG_KEYS
    for value in ("hush", b"hush", ["hush"], {"a": "hush"}, ValueError("hush")):
        logs.get_logger().info("x", **dict.fromkeys(sorted(DROPPED_LOG_KEYS), value))
    assert "hush" not in stream.getvalue()
    assert stream.getvalue().count("[redacted]") == 5 * len(DROPPED_LOG_KEYS)


@given(st.text("0123456789-ax ", max_size=30), st.sampled_from(["x", " ", "-", ""]))
@example("9876543210", "x")
def test_a_run_of_ten_digits_or_more_is_redacted(text: str, between: str) -> None:
    def write() -> None:
        logs.get_logger().info("x", error=f"{text}{between}{ELEVEN}{between}{text}")

    (line,) = lines(write)
    runs = "".join(c if c.isdigit() else " " for c in line["error"]).split()
    assert all(len(run) < 10 for run in runs)


def test_what_premblyd_made_and_shorter_numbers_are_no_persons_number() -> None:
    own = {
        "key": f"a{ELEVEN}{'b' * 20}",
        "event_id": int(ELEVEN),
        "action": f"act-{ELEVEN}",
        "database": f"/srv/{ELEVEN}.db",
        "reference": f"0000000a-0000-4000-8000-a{ELEVEN}",
        "detail": f"{ELEVEN[:9]} {ELEVEN[:4]}-{ELEVEN[4:]}",
    }
    (line,) = lines(lambda: logs.get_logger().info("x", **own, error=ELEVEN))
    assert own.items() - {("detail", own["detail"])} <= line.items()
    assert line["error"] == "[redacted]"


@for_each("number", [ELEVEN, "٢٢٢١٢٣٤٥٦٧٨", "２２２１２３４５６７８"])
def test_a_long_number_is_redacted_in_any_script_and_place(number: str) -> None:
    def write() -> None:
        logs.get_logger().info(f"x {number}", error=f"no {number}", reference=f"nin-{number}")

    (line,) = lines(write)
    told = (line["event"], line["error"], line["reference"])
    assert told == ("x [redacted]", "no [redacted]", "nin-[redacted]")


@for_each("name", FOREIGN[1:])
def test_another_librarys_line_is_its_template_alone(name: str) -> None:
    def write() -> None:
        log = logging.getLogger(name)
        log.warning("bad request from %s: %r", "hush", {"body": "hush"})
        log.error("first line\nsecond line: hush")
        log.error(ValueError("hush"))
        log.error(("INSERT INTO event VALUES (?)", ["hush"]))

    written = lines(write)
    texts = ["bad request from %s: %r", "first line", "ValueError", "tuple"]
    assert [line["text"] for line in written] == texts
    assert {(line["event"], line["library"]) for line in written} == {("library.message", name)}
    assert all(f"{Path(__file__).name}:" in line["where"] for line in written)
    assert written[0]["level"] == "warning"
    assert "hush" not in str(written)


def test_finished_text_of_another_library_is_left_out() -> None:
    def write() -> None:
        name, log = "hush", logging.getLogger("tornado.general")
        log.error(f"bad header of {name}")
        log.error("bad header of %s" % name)  # noqa: UP031
        log.error("bad header of " + name)
        log.error("bad header of {}".format(name), exc_info=ValueError(name))  # noqa: UP032

    written = lines(write)
    assert [line["text"] for line in written] == [None] * 4
    assert written[3]["exception"] == "ValueError"
    assert "hush" not in str(written)


UNEXPECTED = """
import asyncio, ctypes, gc, sys, threading, warnings
from premblyd.ground import logs
logs.configure("json", "info")
logs.report_the_unexpected(logs.write)
class Odd:
    def __del__(self):
        raise ValueError("hush")
def fail(hush="hush"):
    raise ValueError("hush")
Odd()
thread = threading.Thread(target=fail, name="hush")
thread.start(); thread.join()
ctypes.CFUNCTYPE(None)(fail)()
warnings.warn("hush")
async def main():
    asyncio.get_running_loop().call_soon(fail)
    raise ExceptionGroup("hush", [ValueError("hush")])
asyncio.run(main())
"""


@pytest.mark.process
def test_whatever_python_would_print_is_a_line_without_its_text() -> None:
    done = subprocess.run([sys.executable, "-c", UNEXPECTED], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "hush" not in done.stderr
    written = [json.loads(line) for line in done.stderr.splitlines()]
    where = [line["where"] for line in written if line["event"] == "daemon.unexpected"]
    assert where == ["unraisable", "thread", "unraisable", "python"]
    assert written[-1]["exception"] == "ExceptionGroup"
    (warned,) = [line for line in written if line.get("library") == "warnings"]
    assert (warned["text"], warned["where"]) == ("UserWarning", "<string>:15")


def test_the_exception_of_a_lost_task_or_a_callback_or_as_a_value_is_not_quoted() -> None:
    async def fail() -> None:
        raise ValueError("hush")

    def fail_at_once(_: object) -> None:
        raise ValueError("hush")

    async def main() -> None:
        asyncio.get_running_loop().call_soon(fail_at_once, {"bvn": "hush"})
        await asyncio.wait([asyncio.ensure_future(fail())])

    called, lost = lines(lambda: asyncio.run(main()), "info")
    assert called["text"].startswith("Exception in callback")
    assert lost["text"] == "Task exception was never retrieved"
    (line,) = lines(lambda: logs.get_logger().info("x", error=ValueError("hush")))
    assert (called["exception"], lost["exception"], line["error"]) == (
        *("ValueError", "ValueError"),
        "<ValueError>",
    )
    assert "hush" not in str([called, lost])


def test_statements_and_requests_are_never_logged() -> None:
    def write() -> None:
        logging.getLogger("peewee").debug(("INSERT INTO event VALUES (?)", ["hush"]))
        logging.getLogger("tornado.access").error("200 POST /secret-path (127.0.0.1)")

    assert lines(write) == []


def _fail() -> None:
    raise KeyError("hush")


@for_each("log_format", ["json", "console"])
def test_an_exception_is_its_type_and_frames_but_never_its_text(log_format: logs.Format) -> None:
    stream = StringIO()
    logs.configure(log_format, "info", stream)
    try:
        _fail()
    except KeyError as error:
        logs.get_logger().exception("worker.failed")
        logs.get_logger().error("worker.failed", exc_info=error)
        logging.getLogger("tornado.application").error("Uncaught %s", "hush", exc_info=True)
    written = stream.getvalue()
    assert "hush" not in written
    assert written.count("KeyError") == 3
    assert written.count("test_logs.py") == 7  # two frames each, and where a library said it
    assert written.count(" _fail") == 3
