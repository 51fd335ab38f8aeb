"""A record that is filled to be measured is one that a daemon would have left."""

from pathlib import Path

import pytest

from premblyd import times
from tests.bench import filled
from tests.support.database import new_place


@pytest.mark.large
def test_what_is_filled_is_what_a_daemon_would_have_written(tmp_path: Path) -> None:
    """`fill` itself has webhooks come once more and compares, so that what is measured is true."""
    filled.fill(new_place(tmp_path), filled.Filling(5_000, times.now_ms()))
