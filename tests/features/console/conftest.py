"""A daemon with a console and a record to look at: one for each module that only looks."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.chromium import Chromium, chromium
from tests.support.commands import ACTIONS, record, recorded_in
from tests.support.console import CONSOLE, Browser, signed_in
from tests.support.daemon import Premblyd


@pytest.fixture(scope="module", name="daemon")
def run_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Premblyd]:
    folder = tmp_path_factory.mktemp("console")
    place = recorded_in(record(folder))
    with Premblyd(folder, place=place, actions=ACTIONS, console=CONSOLE) as daemon:
        daemon.start()
        # What runs at the start ends first: nothing else changes the record.
        soon = f"state = 'running' OR due_at_ms <= {int(time.time() * 1000) + 1000}"
        daemon.wait_for_rows([(0,)], f"SELECT count(*) FROM delivery WHERE {soon}")
        yield daemon


@pytest.fixture(scope="module", name="own")
def open_browser(daemon: Premblyd) -> Browser:
    """A browser that is signed in."""
    return signed_in(daemon)


@pytest.fixture(scope="module", name="chromium")
def run_chromium(own: Browser) -> Iterator[Chromium]:
    """A real browser that is signed in."""
    with chromium(own) as running:
        yield running


@pytest.fixture(name="fresh")
def run_fresh(tmp_path: Path) -> Iterator[Premblyd]:
    """A daemon that a test may change, not started yet."""
    with Premblyd(tmp_path, console=CONSOLE) as daemon:
        yield daemon
