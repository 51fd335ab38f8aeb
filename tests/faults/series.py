"""A daemon over time: samples of what may grow, and whether it has."""

import math
import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

# Parts of the whole time, that are compared by their medians. One process lives in both.
EARLY, LATE = (1 / 6, 1 / 3), (5 / 6, 1)


@dataclass(frozen=True, slots=True)
class Sample:
    """The daemon at one moment."""

    seconds: float
    events: float
    memory_mib: float
    descriptors: float
    threads: float
    processes: float
    wal_mib: float
    p50_ms: float
    p99_ms: float
    waiting: float
    load: float  # of the machine: answers take long when others use it too


@dataclass(frozen=True, slots=True)
class Measure:
    """What a sample has, and how much of it is as much as before."""

    name: str
    words: str
    value: Callable[[Sample], float]
    ratio: float
    more: float


MEASURES = (
    Measure("memory", "memory (MiB)", lambda sample: sample.memory_mib, 1.05, 4),
    Measure("descriptors", "descriptors", lambda sample: sample.descriptors, 1, 8),
    Measure("threads", "threads", lambda sample: sample.threads, 1, 4),
    Measure("processes", "processes of hooks", lambda sample: sample.processes, 1, 6),
    Measure("WAL", "WAL (MiB)", lambda sample: sample.wal_mib, 1.25, 8),
    Measure("median answer", "answers' median (ms)", lambda sample: sample.p50_ms, 1.5, 2),
    Measure("99th of 100 answers", "99th of 100 (ms)", lambda sample: sample.p99_ms, 2, 20),
)
LOAD = Measure("load", "load of the machine", lambda sample: sample.load, math.inf, math.inf)


def of_process(pid: int) -> dict[str, float]:
    """Return what a sample has of a process, and of the machine."""
    process = psutil.Process(pid)
    return {
        "load": os.getloadavg()[0],
        "memory_mib": process.memory_info().rss / (1 << 20),
        "descriptors": process.num_fds(),
        "threads": process.num_threads(),
        "processes": len(process.children(recursive=True)),
    }


def size_mib(path: Path) -> float:
    """Return the size of a file, 0 when it is not there."""
    return path.stat().st_size / (1 << 20) if path.exists() else 0.0


def quantiles_ms(times_ms: Sequence[float]) -> tuple[float, float]:
    """Return the median and the 99th percentile."""
    if len(times_ms) < 2:
        return (times_ms[0], times_ms[0]) if times_ms else (0.0, 0.0)
    cut = statistics.quantiles(times_ms, n=100, method="inclusive")
    return cut[49], cut[98]


HEADING = (
    "    min  events     MiB  files  threads  procs  WAL MiB  median ms  99th ms  waiting  load"
)


def line(sample: Sample) -> str:
    """Return a sample as a line of the table under `HEADING`."""
    return (
        f"{sample.seconds / 60:>7.1f} {sample.events:>7.0f} {sample.memory_mib:>7.1f}"
        f" {sample.descriptors:>6.0f} {sample.threads:>8.0f} {sample.processes:>6.0f}"
        f" {sample.wal_mib:>8.1f} {sample.p50_ms:>10.1f} {sample.p99_ms:>8.1f}"
        f" {sample.waiting:>8.0f} {sample.load:>5.1f}"
    )


def compare(samples: Sequence[Sample], whole_s: float) -> tuple[list[str], list[str]]:
    """Return a line for each measure that says how it was early, and late; and those that grew
    meanwhile."""
    lines, grown = [], []
    for measure in (*MEASURES, LOAD):
        before, after = (
            _median(samples, measure, begin * whole_s, end * whole_s)
            for begin, end in (EARLY, LATE)
        )
        is_grown = after > before * measure.ratio + measure.more
        verdict = "GREW" if is_grown else "as then" if measure is not LOAD else ""
        lines.append(f"  {measure.words:<24} {before:>9.1f} {after:>9.1f}  {verdict}".rstrip())
        if is_grown:
            grown.append(f"{measure.name} grew from {before:.1f} to {after:.1f}")
    return lines, grown


def _median(samples: Sequence[Sample], measure: Measure, from_s: float, to_s: float) -> float:
    """Return the median of the samples within a time, or the next one after its begin."""
    within = [sample for sample in samples if from_s <= sample.seconds <= to_s]
    later = [sample for sample in samples if sample.seconds >= from_s] or samples[-1:]
    return statistics.median(map(measure.value, within or later[:1]))
