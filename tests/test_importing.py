"""Imports that take nothing along which nobody needs."""

import json as imported_before
import sys
from pathlib import Path

import pytest

from premblyd.importing import without
from tests.support.daemon import Premblyd

# Each takes a twentieth of a start or more. The record is read for alerts, metrics and the console.
LEFT_OUT = {
    *("psycopg", "rich", "prometheus_client"),
    *("premblyd.record.reading", "premblyd.record.statistics", "premblyd.console.app"),
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


def test_a_library_is_hidden_from_an_import_and_not_for_longer() -> None:
    with without("antigravity"), pytest.raises(ModuleNotFoundError):
        import antigravity  # noqa: F401
    assert "antigravity" not in sys.modules


def test_what_is_imported_already_stays() -> None:
    with without("json"):
        import json
    assert json is imported_before
