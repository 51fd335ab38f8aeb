"""What `status` and `check` say about alerts."""

from collections.abc import Iterator

from premblyd.config.hooks import lacks_program
from premblyd.features.watch.settings import ALERTS
from premblyd.features.watch.tables import Alert
from premblyd.record import queries
from premblyd.record.told import Checked, Item, Situation, trouble


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
TROUBLES = (alert,)
