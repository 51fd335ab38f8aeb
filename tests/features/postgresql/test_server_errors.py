"""What a command says of a PostgreSQL server that it can't reach."""

from pathlib import Path

import pytest

from tests.support.commands import run
from tests.support.daemon import Premblyd

pytestmark = pytest.mark.postgresql


@pytest.mark.parametrize("command", ["events", "deliveries", "replay --dead"])
def test_a_server_that_is_away_is_said_in_plain_words(tmp_path: Path, command: str) -> None:
    daemon = Premblyd(tmp_path, database=f"postgresql:///premblyd?host={tmp_path}")
    done = run("--config", daemon.config, *command.split())
    assert (done.code, done.out) == (75, "")
    assert "PostgreSQL can't be reached" in done.err
