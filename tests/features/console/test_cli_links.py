"""Links to the console, which commands print."""

from pathlib import Path

from tests.support.commands import run


def test_no_link_is_printed_while_no_daemon_runs(config: Path) -> None:
    done = run("console", "--config", config)
    assert (done.code, done.out) == (75, "")
    assert done.err == "premblyd is not running. Start it with `premblyd serve`, and try again.\n"
