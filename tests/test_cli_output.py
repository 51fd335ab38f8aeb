"""Where output goes: pipes whose reader leaves, full disks, closed descriptors, odd bytes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from premblyd.cli import COMMANDS
from tests.support.commands import Ran, command, run, run_process
from tests.support.forking import Forked
from tests.support.rows import for_each

# One use of every command that prints something and ends with 0 (`serve` prints nothing).
PRINTING: dict[str, list[str]] = {
    "check": ["check"],
    "demo": ["demo", "--once"],
    "deliveries": ["deliveries"],
    "person erase": ["person", "erase", "--list"],
    "events": ["events", "--json"],
    "explain": ["explain", "body.json"],
    "help": ["--help"],
    "person hold": ["person", "hold", "--list"],
    "init": ["init", "new"],
    "pause": ["pause", "archive"],
    "unsettled": ["unsettled"],
    "record prune": ["record", "prune", "--dry-run"],
    "reconcile": ["reconcile", "known"],
    "rehearse": ["rehearse", "premblyd.yaml"],
    "rejections": ["rejections"],
    "replay": ["replay", "1"],
    "cancel": ["cancel", "--delivery", "WAITING"],
    "show": ["show", "1"],
    "sql": ["sql", "SELECT 1"],
    "stats": ["stats"],
    "try": ["try", "archive", "body.json"],
    "version": ["--version"],
}
# They need a daemon or none, a server or what is paused, or make a file: all print alike.
WITHOUT = {
    "resume",
    "serve",
    "console",
    "send",
    "status",
    "person export",
    "person release",
    "record restore",
    "record move",
    "record backup",
    "record vacuum",
    "record encrypt",
    "hosts",
}
# One command of each manner of printing: lines as they come, a table, JSON, click's own.
MANNERS = ("sql", "deliveries", "events", "help")
BUFFERING = for_each("unbuffered", ["", "1"])  # Python writes at the end, or line by line
MANNERS_OF_USE = for_each("use", [PRINTING[name] for name in MANNERS])
# Whose streams are unbuffered from Python's start: the others' as a forked process makes them.
IN_EARNEST = PRINTING["events"]
# What a process finds that is started without standard streams; and one that is, in earnest.
WITHOUT_STREAMS = """
import os, sys
os.closerange(0, 3)
for name in ("stdin", "stdout", "stderr"):
    setattr(sys, name, None)
    setattr(sys, f"__{name}__", None)
"""
CLOSED = ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
Started = subprocess.Popen[bytes] | Forked


@pytest.fixture
def start(tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Started]:
    """Start a command in a folder with a record, with Python's output buffered or not."""
    (tmp_path / "body.json").write_text('{"response_code":"00"}')
    (tmp_path / "known").write_text("00000000-0000-4000-8000-0000000a001f\n")
    listed = run("deliveries", "--state", "pending", "--limit", 1, "--json", "--config", config)
    (waiting,) = json.loads(listed.out)

    def start(use: list[str], unbuffered: str, *, is_closed: bool = False, **more: Any) -> Started:
        words = [str(waiting["id"]) if word == "WAITING" else word for word in use]
        environ = {
            **os.environ,
            "PREMBLYD_CONFIG": str(config),
            "PYTHONUNBUFFERED": unbuffered,
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        monkeypatch.chdir(tmp_path)
        if use is IN_EARNEST and (unbuffered or is_closed):
            line = [*(CLOSED if is_closed else []), *command(*words)]
            return subprocess.Popen(line, env=environ, **more)
        before = WITHOUT_STREAMS if is_closed else ""
        return Forked(words, environ=environ, before=before, **more)

    return start


def test_every_command_is_tried_here() -> None:
    assert PRINTING.keys() - {"help", "version"} == COMMANDS.keys() - WITHOUT


@pytest.mark.process
@BUFFERING
@MANNERS_OF_USE
def test_a_reader_that_hangs_up_is_no_failure(
    start: Callable[..., Started], use: list[str], unbuffered: str
) -> None:
    hang_up(start, use, unbuffered)


def hang_up(start: Callable[..., Started], use: list[str], unbuffered: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with start(use, unbuffered, stdout=writer, stderr=subprocess.PIPE) as process:
        os.close(writer)
        assert process.stderr
        said = process.stderr.read().splitlines()
    assert not [line for line in said if not line.startswith((b"note: ", b"warning: "))]
    assert process.returncode == 0


@pytest.mark.large
@for_each("name", PRINTING.keys() - {*MANNERS})
def test_a_reader_of_any_other_command_that_hangs_up_is_no_failure(
    start: Callable[..., Started], name: str
) -> None:
    hang_up(start, PRINTING[name], "")


@pytest.mark.process
@BUFFERING
def test_a_reader_that_hangs_up_leaves_a_failure_as_it_is(
    start: Callable[..., Started], tmp_path: Path, unbuffered: str
) -> None:
    (tmp_path / "bad.yaml").write_text("[]")
    for use in (["--config", "bad.yaml", "check", "--json"], ["--config", "bad.yaml", "check"]):
        reader, writer = os.pipe()
        os.close(reader)
        with start(use, unbuffered, stdout=writer, stderr=writer) as process:
            os.close(writer)
        assert process.returncode == 78


@pytest.mark.process
@BUFFERING
@MANNERS_OF_USE
def test_a_full_disk_is_said_in_words(
    start: Callable[..., Started], use: list[str], unbuffered: str
) -> None:
    with (
        open("/dev/full", "wb") as full,
        start(use, unbuffered, stdout=full, stderr=subprocess.PIPE) as process,
    ):
        assert process.stderr
        told = process.stderr.read()
    assert (process.returncode, told) == (1, b"Can't write the output: No space left on device.\n")


@pytest.mark.process
@MANNERS_OF_USE
def test_closed_descriptors_are_no_failure(start: Callable[..., Started], use: list[str]) -> None:
    with start(use, "", is_closed=True) as process:
        pass
    assert process.returncode == 0


ODD = os.fsdecode(b"\xff")


@for_each(
    "arguments",
    [
        ["events", "--code", ODD],
        ["events", f"--reference=x{ODD}"],
        ["show", ODD],
        ["explain", ODD],
        ["--config", ODD, "check"],
        [ODD],
        [f"--{ODD}"],
    ],
)
def test_an_argument_that_is_no_text_is_a_wrong_use(config: Path, arguments: list[str]) -> None:
    done = run("--config", config, *arguments)
    assert (done.code, done.out) == (2, "")
    assert "\\xff' is not UTF-8 text." in done.err


@pytest.mark.process
def test_a_variable_that_is_no_text_is_said(tmp_path: Path) -> None:
    done = run_process("events", PREMBLYD_CONFIG=os.fsdecode(b"/no\xffwhere.yaml"))
    assert done == Ran(
        78, "", "/no\\udcffwhere.yaml:1:1: there is no such file; `premblyd init` writes one\n"
    )


@for_each(
    ("arguments", "code"),
    [
        (["events", "--limit", "1" + "0" * 30], 2),
        (["events", "--limit", "0"], 2),
        (["events", "--limit", "1000000000"], 0),
        (["events", "--since", "99999999999d"], 2),
        (["events", "--since", "0001-01-01T00:00+14:00"], 0),
        (["events", "--until", "9999-12-31T23:59:59-14:00"], 0),
        (["events", "--since", "10000-01-01"], 2),
        (["deliveries", "--event", "9" * 40], 1),
        (["show", "9" * 40], 1),
        (["cancel", "--delivery", "1" + "0" * 30], 2),
        (["cancel", "--delivery", "-1"], 2),
        (["replay", "--delivery", str(2**63 - 1)], 1),
    ],
)
def test_values_out_of_range_end_in_words(config: Path, arguments: list[str], code: int) -> None:
    done = run(*arguments, "--config", config)
    assert done.code == code
    assert bool(done.err) == (code != 0)


@for_each("number", ["0", "x", "1e3", "\u0661", ""])
def test_what_is_no_number_of_a_delivery_is_told_in_words(number: str) -> None:
    done = run("cancel", "--delivery", number)
    assert done.code == 2
    assert f"{number!r} is not a number such as 17" in done.err
