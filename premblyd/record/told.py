"""What people are told of the record, and by which rows: troubles, lines of `check` and `status`,
metrics, and what features tell of an event. All but metrics look at a `Situation`."""

import dataclasses
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

from premblyd.config.models import Config
from premblyd.config.values import DISK_PERCENT, Listen
from premblyd.ground.times import DAY_MS, HOUR_MS
from premblyd.store.engine import Database

MAX_ITEMS = 10  # of one kind: the first ones that its row yields


class Severity(IntEnum):
    """How grave an item is. Notices alone need nobody."""

    NOTICE = 1
    WARNING = 2
    URGENT = 3  # webhooks are lost or nothing runs until somebody does something

    @property
    def word(self) -> str:
        return self.name.lower()


MARKS = {Severity.URGENT: "!!", Severity.WARNING: "! "}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where an item leads: a list, and how it is filtered; None does not filter."""

    page: str = ""  # events, deliveries, rejections, actions; empty: none of them
    code: str | None = None
    action: str | None = None
    state: str | None = None
    reason: str | None = None
    flag: str | None = None  # contradicted, or doubted
    since_ms: int | None = None

    def command(self, now_ms: int) -> str:
        """Return the command that prints the list."""
        since = None if self.since_ms is None else f"{(now_ms - self.since_ms) // HOUR_MS}h"
        options = self.filters(since).items()
        words = [f"--{name} {shlex.quote(value)}" for name, value in options]
        flags = [f"--{self.flag}"] if self.flag else []
        return " ".join(("premblyd", self.page, *words, *flags))

    def filters(self, since: str | None) -> dict[str, str]:
        """Return what the list's filters have, but for the flag."""
        names = ("code", "reason", "state", "action")
        asked = {"since": since, **{name: getattr(self, name) for name in names}}
        return {name: value for name, value in asked.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing that is so. `text` says what, in a line, `remedy` what to do in words, and
    `command` how, or where to look first: the list of `target` if it is not given. `kind` is that
    of its row, which gives it."""

    kind: str = ""
    severity: Severity = Severity.WARNING
    text: str
    remedy: str = ""
    command: str = ""
    target: Target = Target()
    count: int = 1
    about: str = ""  # of those of its kind, where `target` does not tell it

    @property
    def subject(self) -> str:
        """What of its kind it is about, such as an action; empty where a kind has one thing."""
        target = self.target
        return self.about or target.action or target.reason or target.code or ""

    @property
    def needs_somebody(self) -> bool:
        return self.severity > Severity.NOTICE

    def as_json(self) -> dict[str, Any]:
        """Return the item for programs, its severity as a word."""
        own = {"severity": self.severity.word, "about": self.subject or None}
        return dataclasses.asdict(self) | own


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What is looked at: the record, and what else whoever looks knows. Without `settings` it is
    not known which codes the actions serve. `for_ms`: for so long what has happened needs somebody,
    and longer what still waits."""

    record: Database | None  # None: it can't be read, as `unreadable` says
    now_ms: int
    for_ms: int = DAY_MS
    settings: Config | None = None
    path: Path | None = None  # of the database: for its disk
    disk_percent: int = DISK_PERCENT
    store_error: str | None = None  # why the daemon can't commit; only itself knows
    silent_ms: int | None = None  # how long nothing may come from Prembly
    started_at_ms: int = 0  # of the daemon that looks
    # What `status` sees from outside.
    unreadable: str | None = None
    missing_on: str | None = None  # the database on which no daemon runs
    health_error: str | None = None  # what is wrong with the daemon's answer to a health check

    @property
    def since_ms(self) -> int:
        return self.now_ms - self.for_ms

    @property
    def database(self) -> Database:
        """The record, for rows that are not asked without one."""
        if self.record is None:
            raise ValueError("there is no record to read")
        return self.record


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """A row of the table: a kind of trouble. Status, console, alerts, metrics and `check` tell what
    it yields, as it says."""

    kind: str
    ask: Callable[[Situation], Iterator[Item]]
    reads_record: bool = True
    reminds: bool = False  # `check` tells it, too
    has_metric: bool = True  # False: the console and metrics can't know


def trouble(**about: Any) -> Callable[[Callable[[Situation], Iterator[Item]]], Trouble]:
    """Make a row of the table of a function that asks the record: the kind is its name."""
    return lambda ask: Trouble(kind=ask.__name__, ask=ask, **about)


def largest(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return the names and their counts, the highest first."""
    return sorted(counts.items(), key=lambda each: (-each[1], each[0]))


@dataclass(frozen=True, slots=True)
class Family:
    """A metric of the record by its name, as Prometheus has it, and its values by their labels, or
    its one value. No label is what a sender chose."""

    name: str
    help: str
    values: Mapping[Any, float] | float
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """What a feature adds: under `key` for programs what `read` returns, or `nothing` where the
    record can't be read; and for people, lines."""

    key: str
    read: Callable[[Situation], Any]
    lines: Callable[[Situation], Iterable[str]]
    nothing: Any = None


class Block(NamedTuple):
    """Lines for the terminal, below their title, with `more` beside it."""

    title: str
    more: str = ""
    lines: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a feature tells beside what the core shows: `values` by their names in JSON, `sentences`
    for people, and for the terminal alone `lines` and `blocks`, as pages have more to say."""

    values: Mapping[str, Any]
    sentences: Sequence[str] = ()
    lines: Sequence[str] = ()
    blocks: Sequence[Block] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The configuration that `check` looks at, for warnings. `taken`: why nobody can listen at an
    address, as far as that can be known."""

    settings: Config
    path: Path
    taken: Callable[[Listen], Sequence[str]]
