"""The table of troubles: everything that needs an operator, for `status`, `check`, the console,
alerts and metrics.

To add one, write its question beside its likes, in a file of this folder or in the troubles.py of a
feature: `@trouble()` makes a row of it, for TROUBLES at the file's end. Questions must be quick
beside a million events, so they ask indexes and roll-ups, and count no event.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace
from itertools import islice

from premblyd.feature import added
from premblyd.ground.words import counted
from premblyd.record.troubles import daemons, events
from premblyd.record.troubles.trouble import MAX_ITEMS, Item, Situation, Trouble

TROUBLES: tuple[Trouble, ...] = (
    *daemons.TROUBLES,
    *events.TROUBLES,
    *added("troubles", "TROUBLES"),
)


def items(situation: Situation, *, kinds: Collection[str] | None = None) -> list[Item]:
    """Return what there is, the gravest first; with `kinds`, only what is of these. Raise
    StoreUnreadableError when the record can't be read."""
    found = [
        replace(item, kind=row.kind, command=item.command or item.target.command(situation.now_ms))
        for row in TROUBLES
        if kinds is None or row.kind in kinds
        if situation.record is not None or not row.reads_record
        for item in islice(row.ask(situation), MAX_ITEMS)
    ]
    return sorted(found, key=lambda item: -item.severity)


def reminders(situation: Situation) -> list[Item]:
    """Return what `check` tells, too."""
    return items(situation, kinds=[row.kind for row in TROUBLES if row.reminds])


def for_people(items: Iterable[Item]) -> list[Item]:
    """Return what needs somebody, one for a cause: that an action fails stands with its dead
    deliveries."""
    grave = [item for item in items if item.needs_somebody]
    failing = {item.subject: item.text for item in grave if item.kind == "failing"}
    dead = {item.subject for item in grave if item.kind == "dead"}
    return [
        replace(item, text=f"{item.text} {failing[item.subject]}")
        if item.kind == "dead" and item.subject in failing
        else item
        for item in grave
        if not (item.kind == "failing" and item.subject in dead)
    ]


def needs_nobody(items: Iterable[Item]) -> str:
    """Return in one line what of `items` needs nobody: `12 events matched no action (codes 00,
    missing). Nothing to do.` Nothing if there is nothing."""
    parts = []
    for row in TROUBLES:
        if its := [item for item in items if item.kind == row.kind and not item.needs_somebody]:
            subjects = [item.subject for item in its if item.subject]
            codes = ", ".join(subjects)
            is_of_codes = any(item.target.code is not None for item in its)
            word = "" if not is_of_codes else "code " if len(subjects) == 1 else "codes "
            about = f" ({word}{codes})" if subjects else ""
            parts.append(counted(sum(item.count for item in its), *row.needs_nobody) + about)
    return f"{'; '.join(parts)}. Nothing to do." if parts else ""
