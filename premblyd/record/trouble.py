"""Trouble as people are told of it: an item says what is wrong, how grave it is and what to do."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from peewee import Database

from premblyd.config.models import Config

DISK_PERCENT = 90
MAX_ITEMS = 10  # of one kind: the rest is counted in one more


class Severity(IntEnum):
    """How grave an item is. Notices alone need nobody now."""

    NOTICE = 1
    WARNING = 2
    URGENT = 3  # webhooks are lost or nothing runs until somebody does something


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What an item is about, as lists are filtered by it; None does not filter."""

    page: str  # events, deliveries, rejections, actions; empty: none of them
    code: str | None = None
    action: str | None = None
    state: str | None = None
    reason: str | None = None
    flag: str | None = None  # contradicted, or doubted
    since_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing that needs attention. `text` says what is wrong, `remedy` what to do in words, and
    `command` how, or where to look first. `kind` is the same for all items of a kind."""

    kind: str
    severity: Severity
    text: str
    remedy: str
    command: str
    target: Target
    count: int
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
        return {
            **dataclasses.asdict(self),
            "severity": self.severity.name.lower(),
            "about": self.subject or None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What is looked at: the record, and what else is known. Without `settings` it is not known
    which codes the actions serve. `since_ms`: what is older needs nobody any more, unless it still
    waits."""

    database: Database
    now_ms: int
    since_ms: int
    settings: Config | None = None
    path: Path | None = None  # of the database: for its disk
    disk_percent: int = DISK_PERCENT
    store_error: str | None = None  # why the daemon can't commit; only itself knows


def database(situation: Situation) -> Iterator[Item]:
    """Yield that the daemon can't keep webhooks, if it said so."""
    if situation.store_error is not None:
        yield unstorable(situation.store_error)


def unstorable(problem: str) -> Item:
    """Return that the daemon can't keep webhooks, and why."""
    return Item(
        kind="database",
        severity=Severity.URGENT,
        text=f"The database can't keep webhooks: {problem}. They are answered 503.",
        remedy="Most are sent once. Make room, or give the database back what it needs.",
        command="premblyd status; df -h; journalctl -u premblyd -n 50",
        target=Target(page=""),
        count=1,
    )


def largest(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return the names with the highest counts, at most MAX_ITEMS."""
    return sorted(counts.items(), key=lambda each: (-each[1], each[0]))[:MAX_ITEMS]


def counted(number: int, singular: str, plural: str) -> str:
    return f"{number:,} {singular if number == 1 else plural}"
