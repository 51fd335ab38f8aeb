"""What `premblyd check` says of the console."""

from collections.abc import Iterator

from premblyd.cli.check import LOOPBACK, Checked, taken
from premblyd.features.console.settings import CONSOLE


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
    if checked.is_known:
        yield from (
            f"the console can't start: {why}" for why in taken(console.listen, checked.daemon)
        )


WARNINGS = (warnings,)
