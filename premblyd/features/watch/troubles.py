"""The trouble of alerts: one was not sent, so that nobody was told."""

from collections.abc import Iterator

from premblyd.features.watch.settings import ALERTS
from premblyd.features.watch.tables import Alert
from premblyd.record import queries
from premblyd.record.troubles.trouble import Item, Situation, trouble


@trouble(means="another alert could not be sent")
def alert(situation: Situation) -> Iterator[Item]:
    """Yield alerts whose last hook failed, so that nobody was told."""
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
            remedy="Nobody was notified. Fix its hook, and check that it works.",
            command=f"sudo premblyd try --alert {name}",
            about=name,
        )


TROUBLES = (alert,)
