"""What is certified of an erasure: what went and what stays, who did it, when and why. It names the
person by a keyed digest alone, so that it may be kept as long as anybody asks."""

from collections.abc import Sequence
from typing import Any

from premblyd import __version__, times
from premblyd.keep.erasing import Done, Request
from premblyd.keep.persons import FoundBy
from premblyd.model.columns import PLAIN, Kept, columns
from premblyd.model.tables import TABLES

_DIGESTS = "keyed digests of its references, sessions and once keys"
# What stays, and why.
STAYS = {
    "number, key, endpoint, times, code, outcome and size of each event": (
        "what was received and decided, and when; by its key the same webhook stays a duplicate"
    ),
    "deliveries, attempts and questions to Prembly, with states, codes, times and counts": (
        "what was done because of it"
    ),
    _DIGESTS: "so that a later webhook is stored already erased, and nothing runs twice",
    "who erased it, when and why": "to show that it was asked for and done",
    "counts by the hour": "they name nobody",
    "refused requests": "they have no name by which one could be found",
    "lines of logs": "they go as the system's log does",
    "copies of the record that were made before": "they have it until they are deleted",
}
# Of an event alone no name is remembered: others of its reference may come.
OF_ONE_EVENT = {_DIGESTS: "so that nothing runs twice"}
ON_SERVER = {
    "PostgreSQL's own copies: its WAL and archives of it, base backups, replicas that lag": (
        "they go as the server's retention of them says: premblyd does not reach them"
    ),
}
MOVED = {
    "copies in the database's file where SQLite has moved rows": (
        "this SQLite lacks sqlite_dbpage, by which they are overwritten: the next `premblyd prune"
        " --vacuum` leaves none"
    ),
}
# Rows that go whole: they say nothing but a name.
_WHOLE = ("verification_name", "closing")


def certificate(
    done: Done,
    request: Request,
    *,
    gone_at_ms: int | None,
    waits_for: Sequence[int],
    moved_stays: bool,
    is_on_server: bool,
) -> dict[str, Any]:
    """Return it as JSON. `waits_for`: the processes that keep a copy of what is erased in the
    database's log until they end what they read."""
    kept = STAYS | (ON_SERVER if is_on_server else {}) | (MOVED if moved_stays else {})
    if request.named.by is FoundBy.EVENT:
        kept |= OF_ONE_EVENT
    return {
        "erasure": done.id,
        "at": times.iso(done.at_ms),
        "actor": request.actor,
        "reason": request.reason,
        "found_by": request.named.by.value,
        "subject": done.subject,
        "events": [{"id": number, "key": key} for number, key in sorted(done.keys.items())],
        "cancelled": done.cancelled,
        "erased": [_erased(table, count) for table, count in done.rows.items() if count],
        "kept": [{"what": what, "why": why} for what, why in kept.items()],
        "of_others": list(done.other_ids),
        "is_gone": gone_at_ms is not None,
        "gone_at": None if gone_at_ms is None else times.iso(gone_at_ms),
        "waits_for": list(waits_for),
        "premblyd": __version__,
    }


def _erased(name: str, count: int) -> dict[str, Any]:
    """Return what went of a table's rows, by what its columns hold."""
    [table] = [each for each in TABLES if each._meta.table_name == name]
    of_class: dict[str, list[str]] = {}
    for column in columns(table):
        if column.holds is not PLAIN and column.kept in _GOES:
            of_class.setdefault(column.holds.value, []).append(column.column_name)
    went = {"rows": count, "row_removed": name in _WHOLE, "columns": of_class}
    return {"table": name, **went}


_GOES = (Kept.BODY, Kept.IDENTITY, Kept.IN_FORCE)
