"""A long life: many events with actions, and what grows meanwhile.

    python -m tests.faults.soak --events 1000000 [--plot soak.svg]

Prints a table of memory, descriptors, threads, WAL and waiting deliveries at even steps, draws
them, and ends with 1 when something grows that should not.
"""

import argparse
import contextlib
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from itertools import count
from pathlib import Path

import psutil

from tests.faults import campaigns
from tests.faults.daemon import Victim, folder
from tests.support.configuration import shell
from tests.support.processes import VISIBLE
from tests.support.webhooks import PATH, signed

STEPS = 20
CLIENTS = 4
MAX_WAITING = 2000  # clients pause there, so that what is measured is not a queue
MAX_WAL_MIB = 64.0
MAX_SLOPE_KIB = 1024.0  # of memory, over the second half, for each 100,000 events
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # Okabe and Ito: told apart by everyone


@dataclass(frozen=True, slots=True)
class Sample:
    """The daemon at one moment."""

    events: int
    seconds: float
    memory_mib: float
    descriptors: int
    threads: int
    wal_mib: float
    waiting: int


MEASURED = ("memory_mib", "descriptors", "threads", "wal_mib")


class Clients:
    """Send webhooks over connections that are kept, until told to stop."""

    def __init__(self, victim: Victim) -> None:
        self._address = victim.address
        self._numbers = count(1)
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(CLIENTS)]
        self.sent = 0
        self.refused = 0
        self.going = threading.Event()
        self.stopping = False

    def start(self) -> None:
        self.going.set()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self.stopping = True
        self.going.set()
        for thread in self._threads:
            thread.join(15)

    def _run(self) -> None:
        with contextlib.closing(HTTPConnection(self._address, timeout=30)) as connection:
            while not self.stopping:
                self.going.wait()
                number = next(self._numbers)
                code = b"00" if number % 4 == 0 else b"01"
                body = b'{"response_code":"%b","reference":"r-%d","fill":"%0400d"}' % (
                    code,
                    number,
                    0,
                )
                connection.request("POST", PATH, body, signed(body))
                answer = connection.getresponse()
                answer.read()
                if answer.status == 200:
                    self.sent += 1
                else:
                    self.refused += 1


def soak(at: Path, events: int) -> tuple[list[Sample], list[str]]:
    """Send so many events; return the samples, and what is wrong."""
    actions = [
        shell("sh", "true", "00", retry={"attempts": 2}, concurrency=2),
        {"name": "gone", "response_codes": ["01"], "when": "body.never", "shell": "true"},
    ]
    samples: list[Sample] = []
    with Victim(at, actions=actions) as victim:
        victim.start(VISIBLE)
        clients = Clients(victim)
        start = time.monotonic()
        clients.start()
        while len(samples) <= STEPS:
            waiting = _waiting(victim)
            (clients.going.clear if waiting > MAX_WAITING else clients.going.set)()
            if clients.sent >= events * len(samples) / STEPS:
                samples.append(_sample(victim, clients.sent, time.monotonic() - start, waiting))
                print(_line(samples[-1]), flush=True)
            time.sleep(0.1)
        clients.stop()
        deadline = time.monotonic() + 120
        while (left := _waiting(victim)) and time.monotonic() < deadline:
            time.sleep(0.2)
        problems = _judge(samples, left, clients.refused)
        stored = victim.rows("SELECT count(*) FROM event")[0][0]
        if stored < clients.sent:
            problems.append(f"{clients.sent} acknowledged, {stored} stored")
        problems += victim.complaints()[:3]
        if victim.stop() != 0:
            problems.append("it did not stop cleanly")
    return samples, problems


def _waiting(victim: Victim) -> int:
    waiting: int = victim.rows("SELECT count(*) FROM delivery WHERE due_at_ms IS NOT NULL")[0][0]
    return waiting


def _sample(victim: Victim, events: int, seconds: float, waiting: int) -> Sample:
    process = psutil.Process(victim.process.pid)
    wal = victim.database.with_name(victim.database.name + "-wal")
    return Sample(
        events=events,
        seconds=seconds,
        memory_mib=process.memory_info().rss / (1 << 20),
        descriptors=process.num_fds(),
        threads=process.num_threads(),
        wal_mib=wal.stat().st_size / (1 << 20),
        waiting=waiting,
    )


def _judge(samples: Sequence[Sample], left: int, refused: int) -> list[str]:
    problems = [f"{left} deliveries never ended"] if left else []
    if refused:
        problems.append(f"{refused} webhooks were refused")
    later = samples[len(samples) // 2 :]
    if (slope := slope_kib(later)) > MAX_SLOPE_KIB:
        problems.append(f"memory grows by {slope:.0f} KiB for 100,000 events")
    if max(sample.wal_mib for sample in samples) > MAX_WAL_MIB:
        problems.append("the WAL is larger than 64 MiB")
    for name in ("descriptors", "threads"):
        first, last = (getattr(sample, name) for sample in (later[0], later[-1]))
        if last > first + 8:
            problems.append(f"{name} grew from {first} to {last}")
    return problems


def slope_kib(samples: Sequence[Sample]) -> float:
    """Return the slope of the memory by least squares, in KiB for each 100,000 events."""
    events = [float(one.events) for one in samples]
    memory = [one.memory_mib for one in samples]
    mean_events, mean_memory = sum(events) / len(events), sum(memory) / len(memory)
    above = sum((x - mean_events) * (y - mean_memory) for x, y in zip(events, memory, strict=True))
    below = sum((x - mean_events) ** 2 for x in events)
    return above / below * 1024 * 100_000 if below else 0.0


HEADING = (
    f"{'events':>9} {'s':>6} {'MiB':>7} {'fds':>5} {'threads':>8} {'WAL MiB':>8} {'waiting':>8}"
)


def _line(one: Sample) -> str:
    return (
        f"{one.events:>9} {one.seconds:>6.0f} {one.memory_mib:>7.1f} {one.descriptors:>5}"
        f" {one.threads:>8} {one.wal_mib:>8.1f} {one.waiting:>8}"
    )


def draw(samples: Sequence[Sample]) -> str:
    """Return the samples as an SVG: each measure in a band of its own, from zero up."""
    width, band, left, top = 720, 110, 120, 30
    height = top + band * len(MEASURED) + 30
    last = samples[-1].events or 1
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{left}" y="18">premblyd over {last:,} events with actions</text>',
    ]
    for index, (name, colour) in enumerate(zip(MEASURED, COLOURS, strict=True)):
        values = [float(getattr(one, name)) for one in samples]
        floor = top + band * (index + 1) - 15
        most = max(values) * 1.1 or 1.0
        points = " ".join(
            f"{left + one.events / last * (width - left - 20):.1f},"
            f"{floor - value / most * (band - 30):.1f}"
            for one, value in zip(samples, values, strict=True)
        )
        label = name.replace("_", " ").replace("mib", "(MiB)")
        parts += [
            f'<line x1="{left}" x2="{width - 20}" y1="{floor}" y2="{floor}" stroke="#999"/>',
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>',
            f'<text x="10" y="{floor - 30}">{label}</text>',
            f'<text x="10" y="{floor - 14}" fill="#555">at most {max(values):.4g}</text>',
        ]
    end = f'x="{width - 20}" y="{height - 12}" text-anchor="end"'
    parts.append(f"<text {end}>{last:,} events</text></svg>")
    return "\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    print(HEADING)
    with folder() as at:
        samples, problems = soak(at, arguments.events)
    print(f"memory: {slope_kib(samples[len(samples) // 2 :]):+.0f} KiB for 100,000 events")
    if arguments.plot:
        arguments.plot.write_text(draw(samples))
    campaigns.end(problems)


if __name__ == "__main__":
    main()
