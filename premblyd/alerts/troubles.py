"""What trouble there is, for alerts: what the table of troubles gives for what they are on."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from premblyd.config.alerts import Alert, Trigger
from premblyd.config.models import Config
from premblyd.databases import DatabaseAddress, file_of
from premblyd.engines.connections import connect_read_only
from premblyd.errors import PremblydError
from premblyd.record.troubles import table
from premblyd.record.troubles.trouble import Item, Situation


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was found in one look."""

    items: Mapping[Trigger, Sequence[Item]]
    is_read: bool  # the record was: what is not among `items` is not there
    can_store: bool

    def of(self, alert: Alert) -> list[Item]:
        """Return what `alert` is to tell of, the gravest first: not that it could not be sent
        itself."""
        items = [
            item
            for trigger in alert.on
            for item in self.items[trigger]
            if item.needs_somebody and (item.kind, item.subject) != ("alert", alert.name)
        ]
        return sorted(items, key=lambda item: -item.severity)

    def can_tell_that_over(self, kind: str) -> bool:
        """Return whether trouble of `kind` is over when it is not there: some is only a day old by
        then, and nothing is known while the record can't be read."""
        [row] = [row for row in table.TROUBLES if row.kind == kind]
        is_known = self.is_read or not row.reads_record
        return row.passes and is_known and (kind != "silent" or self.can_store)


def find(
    settings: Config,
    place: DatabaseAddress,
    now_ms: int,
    *,
    started_at_ms: int,
    store_error: str | None,
) -> Found:
    """Look for what the alerts are on. It reads the database, so not in the loop. Never raise
    because that can't be read: that is trouble, too."""
    situation = Situation(
        record=None,
        now_ms=now_ms,
        settings=settings,
        path=file_of(place),
        store_error=store_error,
        started_at_ms=started_at_ms,
    )
    try:
        with closing(connect_read_only(place)) as record:
            return _look(settings, replace(situation, record=record))
    except PremblydError as error:
        return _look(settings, replace(situation, store_error=store_error or str(error)))


def _look(settings: Config, situation: Situation) -> Found:
    return Found(
        items={
            trigger: table.items(
                replace(situation, disk_percent=trigger.percent, silent_ms=trigger.silent_ms),
                kinds=[trigger.kind],
            )
            for alert in settings.alerts
            for trigger in alert.on
        },
        is_read=situation.record is not None,
        can_store=situation.store_error is None,
    )
