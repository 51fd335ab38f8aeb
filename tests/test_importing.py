"""Imports that take nothing along which nobody needs."""

from pathlib import Path

import pytest

from tests.support.daemon import Premblyd

pytestmark = pytest.mark.process

# Each takes a twentieth of a start or more. The record is read for alerts, metrics and the console.
LEFT_OUT = {
    *("prometheus_client", "pycurl", "rich"),
    *(
        "premblyd.record.events",
        "premblyd.features.statistics.shown",
        "premblyd.features.console.app",
        "premblyd.features.worker.worker",
        "premblyd.features.postgresql.membership",
        "premblyd.features.keeping.erasing",
    ),
}
NAME_THE_MODULES = """
import atexit, os, pathlib, sys
atexit.register(lambda: pathlib.Path(os.environ["MODULES"]).write_text(" ".join(sys.modules)))
"""


@pytest.mark.sqlite  # with a server it needs the driver
def test_a_plain_daemon_imports_nothing_that_it_does_not_use(tmp_path: Path) -> None:
    named = tmp_path / "modules"
    with Premblyd(tmp_path) as daemon:
        daemon.start(before=NAME_THE_MODULES, is_executed=True, MODULES=str(named))
        assert daemon.stop() == 0
    modules = set(named.read_text().split())
    assert "premblyd.daemon" in modules
    assert not LEFT_OUT & modules
