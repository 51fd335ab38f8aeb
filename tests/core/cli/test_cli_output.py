"""Where output goes: pipes whose reader leaves, full disks, closed descriptors, odd bytes."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import command, run
from tests.support.forking import Forked
from tests.support.rows import for_each

BUFFERING = for_each("unbuffered", ["", "1"])  # Python writes at the end, or line by line
# One command of each manner of printing: lines as they come, a table, JSON, click's own.
IN_EARNEST = ["events", "--json"]  # whose streams are unbuffered from Python's start
MANNERS_OF_USE = for_each("use", [["sql", "SELECT 1"], ["deliveries"], IN_EARNEST, ["--help"]])
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

    def start(use: list[str], unbuffered: str, *, is_closed: bool = False, **more: Any) -> Started:
        environ = {
            **os.environ,
            "PREMBLYD_CONFIG": str(config),
            "PYTHONUNBUFFERED": unbuffered,
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        monkeypatch.chdir(tmp_path)
        if use is IN_EARNEST and (unbuffered or is_closed):
            line = [*(CLOSED if is_closed else []), *command(*use)]
            return subprocess.Popen(line, env=environ, **more)
        before = WITHOUT_STREAMS if is_closed else ""
        return Forked(use, environ=environ, before=before, **more)

    return start


@pytest.mark.process
@BUFFERING
@MANNERS_OF_USE
def test_a_reader_that_hangs_up_is_no_failure(
    start: Callable[..., Started], use: list[str], unbuffered: str
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with start(use, unbuffered, stdout=writer, stderr=subprocess.PIPE) as process:
        os.close(writer)
        assert process.stderr
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.process
@BUFFERING
def test_a_reader_that_hangs_up_leaves_a_failure_as_it_is(
    start: Callable[..., Started], tmp_path: Path, unbuffered: str
) -> None:
    (tmp_path / "bad.yaml").write_text("[]")
    reader, writer = os.pipe()
    os.close(reader)
    use = ["--config", "bad.yaml", "check", "--json"]
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
    [["events", f"--reference=x{ODD}"], ["show", ODD], ["--config", ODD, "check"], [f"--{ODD}"]],
)
def test_an_argument_that_is_no_text_is_a_wrong_use(config: Path, arguments: list[str]) -> None:
    done = run("--config", config, *arguments)
    assert (done.code, done.out) == (2, "")
    assert "An argument is not UTF-8 text." in done.err


def test_values_out_of_range_end_in_words(config: Path) -> None:
    for arguments, code in (
        (["events", "--limit", "1" + "0" * 30], 2),
        (["events", "--limit", "1000000000"], 0),
        (["events", "--since", "99999999999d"], 2),
        (["events", "--until", "9999-12-31T23:59:59-14:00"], 0),
        (["events", "--since", "10000-01-01"], 2),
        (["deliveries", "--event", "9" * 40], 1),
        (["cancel", "--delivery", "1" + "0" * 30], 2),
        (["cancel", "--delivery", "\u0661"], 2),
        (["replay", "--delivery", str(2**63 - 1)], 1),
    ):
        done = run(*arguments, "--config", config)
        assert (done.code, bool(done.err)) == (code, code != 0), arguments
