"""What trouble there is, for alerts: what the record tells, and what only the daemon knows."""

from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from premblyd import times
from premblyd.config.alerts import Alert
from premblyd.config.models import Config
from premblyd.databases import Place, file_of
from premblyd.engines.connections import connect_read_only
from premblyd.errors import PremblydError
from premblyd.record import attention, reading
from premblyd.record.trouble import Item, Severity, Target, unstorable

OF_DAEMON = ("database", "silent")
# What has happened does not pass: after some time it is not told any more, that is all.
FADING = ("contradicted", "doubted", "rejections", "given_up", "unmatched", "new_code")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was found in one look. `last_event_ms`: when Prembly last sent something; None: never.
    `problem`: why the database can't be used; None: it can."""

    now_ms: int
    items: Sequence[Item]
    last_event_ms: int | None
    problem: str | None
    path: Path | None
    is_read: bool  # the record was: what is not among `items` is not there


def find(
    settings: Config, place: Place, now_ms: int, *, kinds: Collection[str], store_error: str | None
) -> Found:
    """Look for trouble of `kinds`. It reads the database, so not in the loop. Never raise because
    that can't be read: that is trouble, too."""
    chosen = [kind for kind in kinds if kind not in OF_DAEMON and kind != "disk"]
    items: list[Item] = []
    last_event_ms = None
    problem = store_error
    is_read = False
    try:
        with closing(connect_read_only(place)) as database:
            situation = attention.situation(
                database, now_ms, settings=settings, path=file_of(place)
            )
            items = attention.items(situation, kinds=chosen)
            last_event_ms = reading.last_event_of_prembly_ms(database)
            is_read = True
    except PremblydError as error:
        problem = problem or str(error)
    return Found(
        now_ms=now_ms,
        items=[item for item in items if item.needs_somebody],
        last_event_ms=last_event_ms,
        problem=problem,
        path=file_of(place),
        is_read=is_read,
    )


def of_alert(alert: Alert, found: Found, *, started_at_ms: int) -> list[Item]:
    """Return what `alert` is to tell of, the gravest first."""
    items: list[Item] = []
    for trigger in alert.on:
        match trigger.kind:
            case "database" if found.problem is not None:
                items.append(unstorable(found.problem))
            case "silent" if found.problem is None:
                last_ms = found.last_event_ms or started_at_ms
                if found.now_ms - last_ms >= trigger.silent_ms:
                    items.append(_silent(found))
            case "disk" if found.path is not None:
                items += attention.disk(found.path, trigger.percent)
            case kind:
                # That it could not be sent, an alert can't tell by itself.
                own = alert.name if kind == "alert" else None
                items += [item for item in found.items if item.kind == kind and item.subject != own]
    return sorted(items, key=lambda item: -item.severity)


def can_tell_that_over(kind: str, found: Found) -> bool:
    """Return whether trouble of `kind` is over when it is not there: some is only a day old by
    then, and nothing is known while the record can't be read."""
    if kind in ("database", "disk"):
        return True
    return kind not in FADING and found.is_read and (kind != "silent" or found.problem is None)


def _silent(found: Found) -> Item:
    last = f"since {times.for_people(found.last_event_ms)} UTC" if found.last_event_ms else "yet"
    return Item(
        kind="silent",
        severity=Severity.WARNING,
        text=f"No event has come {last}.",
        remedy="Is the URL in Prembly's dashboard still right, and does it reach this machine?"
        " `premblyd rejections` shows what was refused, `premblyd reconcile` what is missing.",
        command="premblyd events --limit 5",
        target=Target(page="events"),
        count=1,
    )
