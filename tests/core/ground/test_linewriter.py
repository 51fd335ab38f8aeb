"""Lines for pipes that nobody reads and disks that are full."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from premblyd.ground import logs
from premblyd.ground.logs import LineWriter


def dropped(count: int) -> bytes:
    return b"dropped %d\n" % count


@contextmanager
def pipe() -> Iterator[tuple[int, int, LineWriter]]:
    """Yield a pipe's two ends and a writer to it."""
    reader, end = os.pipe()
    writer = LineWriter(end, dropped)
    try:
        yield reader, end, writer
    finally:
        for descriptor in (reader, end):
            if os.path.exists(f"/proc/self/fd/{descriptor}"):
                os.close(descriptor)
        writer.close()


def read(reader: int, is_enough: Callable[[bytes], object]) -> list[bytes]:
    """Return the lines read until it is enough."""
    got = b""
    while not is_enough(got):
        got += os.read(reader, 65536)
    return got.splitlines()


def test_lines_come_in_order_and_whole() -> None:
    lines = [b"%d %b\n" % (number, b"x" * (number % 5000)) for number in range(2000)]
    with pipe() as (reader, _, writer):
        for line in lines:
            writer.write(line)
        assert read(reader, lambda got: got.endswith(lines[-1])) == [line[:-1] for line in lines]
        assert writer.flush()


def test_a_pipe_that_nobody_reads_holds_nobody_up_and_what_is_missing_is_told() -> None:
    line = b"x" * 999 + b"\n"
    count = 2 * logs.MAX_WAITING_BYTES // len(line)
    with pipe() as (reader, _, writer):
        for _ in range(count):
            writer.write(line)
        assert not writer.flush(0.05)
        got = read(reader, lambda got: got.endswith(b"\n") and b"dropped" in got[-30:])
        writer.write(b"after\n")
        assert read(reader, lambda got: got.endswith(b"\n")) == [b"after"]
    *kept, missing = got
    assert set(kept) == {line[:-1]}
    assert missing == b"dropped %d" % (count - len(kept))


def test_what_is_missing_is_told_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LineWriter, "_run", lambda _: None)  # taken by hand below
    monkeypatch.setattr(logs, "MAX_WAITING_BYTES", 10)
    with pipe() as (_, __, writer):
        for line in (b"one\n", b"two\n", b"three\n", b"four\n"):
            writer.write(line)
        writer._waiting_bytes = 0  # as if it was written
        writer.write(b"five\n")
        assert writer._take() == b"one\ntwo\ndropped 2\nfive\n"
        writer._idle = True


def test_a_full_disk_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "RETRY_S", 0.01)
    reader, end = os.pipe()
    full = os.open("/dev/full", os.O_WRONLY)
    writer = LineWriter(full, dropped)
    try:
        writer.write(b"kept\n")
        assert not writer.flush(0.02)
        os.dup2(end, writer._descriptor)  # there is room again
        assert read(reader, lambda got: got.endswith(b"\n")) == [b"kept"]
    finally:
        writer.close()
        for descriptor in (reader, end, full):
            os.close(descriptor)


def test_a_pipe_that_was_made_non_blocking_loses_no_line() -> None:
    line = b"x" * 999 + b"\n"
    with pipe() as (reader, end, writer):
        fcntl.fcntl(end, fcntl.F_SETFL, os.O_NONBLOCK)
        for _ in range(500):
            writer.write(line)
        assert read(reader, lambda got: len(got) == 500_000) == [line[:-1]] * 500


def test_a_descriptor_that_was_closed_is_not_the_next_file_of_that_number(tmp_path: Path) -> None:
    with pipe() as (reader, end, writer):
        os.close(end)
        with (tmp_path / "other").open("wb") as other:
            assert other.fileno() == end
            writer.write(b"kept\n")
            assert read(reader, lambda got: got.endswith(b"\n")) == [b"kept"]
        assert (tmp_path / "other").read_bytes() == b""
