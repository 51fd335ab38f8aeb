"""What `status`, `check` and alerts say: that nothing comes, and that an alert was not sent."""

from collections.abc import Iterator

from premblyd.config.hooks import lacks_program
from premblyd.features.watch.settings import ALERTS
from premblyd.features.watch.tables import Alert
from premblyd.ground import times
from premblyd.prembly.events import STORED_BY
from premblyd.record import queries
from premblyd.record.told import Checked, Item, Situation, Target, trouble
from premblyd.store.engine import Database
from premblyd.store.tables import Event


@trouble(has_metric=False)
def silent(situation: Situation) -> Iterator[Item]:
    """Yield that nothing came from Prembly, while it could be stored."""
    if situation.silent_ms is None or situation.store_error is not None:
        return
    last_ms = _last_of_prembly_ms(situation.database)
    if situation.now_ms - (last_ms or situation.started_at_ms) >= situation.silent_ms:
        last = f"since {times.for_people(last_ms)} UTC" if last_ms else "yet"
        yield Item(
            text=f"No event has come {last}.",
            remedy="Is the URL in Prembly's dashboard still right, and does it reach this machine?"
            " `premblyd rejections` shows what was refused.",
            command="premblyd events --limit 5",
            target=Target(page="events"),
        )


def _last_of_prembly_ms(database: Database) -> int | None:
    """Return when Prembly last sent an event by itself; None: none of the newest 500 was one."""
    query = Event.select(Event.received_at_ms, Event.verified_by).order_by(Event.id.desc())
    found = queries.tuples(database, query.limit(500))
    sent = [at_ms for at_ms, verified_by in found if verified_by != STORED_BY]
    return sent[0] if sent else None


@trouble()
def alert(situation: Situation) -> Iterator[Item]:
    """Yield alerts that reached nobody, because their last hook failed."""
    query = Alert.select(Alert.name, Alert.error, Alert.output).where(
        Alert.kind == "", Alert.at_ms >= situation.since_ms
    )
    settings = situation.settings
    names = {alert.name for alert in ALERTS.of(settings)} if settings else None
    for name, error, output in queries.tuples(situation.database, query):
        if names is not None and name not in names:
            continue
        printed = f" It printed: {' '.join(output.split())}" if output else ""
        yield Item(
            text=f"The alert {name} could not be sent: {error or 'its hook failed'}.{printed}",
            remedy="Nobody was notified. Fix its hook: it runs again until it works.",
            command="sudo journalctl -u premblyd -n 50",
            about=name,
        )


def warnings(checked: Checked) -> Iterator[str]:
    """Yield the alerts with a program that is not there."""
    for alert in ALERTS.of(checked.settings):
        yield from lacks_program(f"alert {alert.name}", alert.hook)


WARNINGS = (warnings,)
TROUBLES = (silent, alert)
