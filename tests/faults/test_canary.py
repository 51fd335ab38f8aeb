"""The canary campaign's short form; the long one is `python -m tests.faults.canary`."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.canary import Campaign
from tests.support.hosts import new_server

pytestmark = pytest.mark.night


def test_nothing_is_left_of_who_was_erased_or_pruned(tmp_path: Path) -> None:
    with ExitStack() as opened:
        assert Campaign(tmp_path, 7, opened).run() == []


def test_nothing_is_left_on_a_server_either(tmp_path: Path) -> None:
    with ExitStack() as opened:
        assert Campaign(tmp_path, 10, opened, place=new_server()).run() == []
