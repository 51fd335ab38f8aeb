"""What a feature may add to the core, which knows none of them.

A feature is a folder of `premblyd/features/`, and a line in its `__init__.py`. In the folder the
core looks for these files and what they hold; it imports one when it needs it, and a feature has
none of those that it does not need:

    __init__.py   words alone: COMMANDS, what an operator types (`Command`); TROUBLES: kinds that
                  alerts may be for; OCCURRENCES: events of the log, with EXPECTED: no warnings
                  (ground/telemetry.py); COUNTS: metrics that count these (`Count`)
    settings.py   SECTIONS, ACTION_KEYS: its keys in the configuration (config/keys.py); MISTAKES:
                  what is wrong between values of the file; ADDRESSES, TYPED_ADDRESSES: how it opens
                  a database (`Config.database`, `--database`); INIT_OPTIONS: of
                  `premblyd init`; LOGS_REFERENCES: whether the log may name verifications;
                  EXPRESSION_CHECKS: what raises when a `when` or `select` has a mistake. And models
                  of its hooks: to be defined is enough for them (config/hooks.py)
    sample.yaml   its lines in the sample that `init` writes (cli/check.py)
    tables.py     TABLES: models (`premblyd/store/columns.py`). VIEWS: statements that make views;
                  IN_SQLITE, IN_POSTGRESQL: those that make triggers, in that engine's SQL. EXPIRED:
                  those that delete what has expired, by `now_ms`; COPIES: the table of the copies
                  that there are; NEEDED: the condition on a delivery that has ended, but is still
                  needed (features/keeping). GROUP: what queries `Due.group` (queue/due.py)
    shown.py      what people see (record/told.py): TROUBLES, NOT_LATE, FAILURES, of what needs
                  an operator (record/troubles.py); PROMISES, KEYS, WARNINGS, REMINDERS, by `check`;
                  STATUS, by `status`; FAMILIES, by metrics; OF_EVENT, OF_QUEUED, OF_REPLAY, of one
                  event, of deliveries that were queued, and before (record/events.py); OF_DELIVERY,
                  of one in `show`; AT_REST, of actions that begin nothing (record/standing.py),
                  and IN_WORDS (features/reading)
    listing.py    LISTS, FILTERS, COLUMNS, INSTEAD: of lists; VETOES: what a replay leaves out
                  (record/listing.py). Apart from shown.py, which imports lists
    pages.py      PAGES, LINKS, PANELS: pages of the console, entries of its navigation, parts of
                  its pages (features/console). Only the console imports it, so it may import the
                  console. Their templates are in the folder `templates`
    kinds.py      KINDS: kinds of hooks, each a model and where its runner is (`run/kinds.py`).
                  PREVIEWS: and where what returns what `explain` shows of one
                  (tryout/explaining.py)
    hooks.py      HOOKS: what it does on the way of a webhook; WITHHELD, HELD_UNTIL: parts of the
                  core's statements; FORGOTTEN, RUNS_ERASED: what it says of what was erased
                  (queue/hooks.py); REMOVED_UNTIL, NAMED_SINCE: of what was removed (asking/days.py,
                  asking/reconciliation.py); REMOVING: what it keeps of an event that is removed
                  (keeping/removing.py); SHIFTS: statements that move its due times when the clock
                  was set (`Queue.shift`)
    daemon.py     PARTS: what a running daemon has more (`services.py`)
    backends.py   BACKENDS, TRANSLATIONS: another engine (`premblyd/store/connections.py`); HOSTS:
                  what returns this host's name; MEMBERS: what makes a daemon one of several hosts
                  (`queue/register.py`)
    cipher.py     CIPHERS: a SQLite for encrypted files (`premblyd/store/sqlite/connecting.py`)
"""

import functools
import importlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from premblyd.features import FEATURES


@functools.cache
def installed() -> tuple[str, ...]:
    """Return the features that are there with all that they need, in the order of their lines."""
    found = dict(FEATURES)
    while lacking := [name for name, needs in found.items() if not found.keys() >= {*needs}]:
        for name in lacking:
            del found[name]
    return tuple(found)


def added(file: str, name: str, of: Iterable[str] | None = None) -> Iterator[Any]:
    """Yield what stands under `name`, a tuple, in this file of each feature that has it; `of`: of
    these features alone."""
    for feature in installed() if of is None else of:
        if f"{file}.py" in _files_of(feature):
            module = f"premblyd.features.{feature}.{file}".removesuffix(".__init__")
            yield from getattr(importlib.import_module(module), name, ())


def texts(file: str) -> Iterator[str]:
    """Yield the text of this file of each feature that has it."""
    for feature in installed():
        if file in _files_of(feature):
            yield (_FOLDER / feature / file).read_text(encoding="utf-8")


_FOLDER = Path(__file__).parent / "features"


@functools.cache
def _files_of(feature: str) -> frozenset[str]:
    return frozenset(path.name for path in (_FOLDER / feature).iterdir())


@dataclass(frozen=True, slots=True)
class Command:
    """A command. `name`: as it is typed. `heading`: where `--help` has it. `module`: holds a click
    command of the name's last word, and is imported when it runs. `interrupted`: what Ctrl-C leaves
    and how to go on; then `exit_code`."""

    name: str
    heading: str
    module: str
    summary: str
    interrupted: str = ""
    exit_code: int = 1


@dataclass(frozen=True, slots=True)
class Count:
    """A metric that counts an event of the log, by some of its fields. All `values` that these can
    have are there from the start: of a count that begins with its first 1, nobody can tell the
    increase."""

    name: str
    help: str
    event: str
    fields: tuple[str, ...]
    values: Sequence[tuple[str, ...]]
