"""What `premblyd check` says of alerts and check-ins."""

from collections.abc import Iterator

from premblyd.cli.check import Checked, lacks_program
from premblyd.config.models import Config
from premblyd.config.values import duration_text
from premblyd.features.watch.settings import ALERTS, CHECKIN


def promises(settings: Config) -> Iterator[str]:
    """Yield who is told of what, and how often."""
    for alert in ALERTS.of(settings):
        triggers = ", ".join(map(str, alert.on))
        yield f"Alert {alert.name}: {triggers}; repeated at most every {alert.every}."
    if (checkin := CHECKIN.of(settings)) is not None:
        yield f"Sends a check-in every {duration_text(checkin.every_ms)}."


def warnings(checked: Checked) -> Iterator[str]:
    """Yield the alerts whose program is not there."""
    for alert in ALERTS.of(checked.settings):
        yield from lacks_program(f"alert {alert.name}", alert.hook)


PROMISES = (promises,)
WARNINGS = (warnings,)
