"""What `premblyd check` says of the console."""

from collections.abc import Iterator

from premblyd.config.values import LOOPBACK
from premblyd.features.console.settings import CONSOLE
from premblyd.record.told import Checked


def warnings(checked: Checked) -> Iterator[str]:
    """Yield that the console may be reached from elsewhere, where cookies go in the open; and why
    it can't start."""
    if (console := CONSOLE.of(checked.settings)) is None:
        return
    host = console.listen.host
    if not (console.listen.unix_path or host in LOOPBACK or host.startswith("127.")):
        yield (
            f"console: it listens on {console.listen}, without TLS: anyone on the network can read"
            " its pages and take over a session. Listen on 127.0.0.1, and reach it by ssh -L or"
            " behind a proxy with TLS"
        )
    yield from (f"the console can't start: {why}" for why in checked.taken(console.listen))


WARNINGS = (warnings,)
