"""`tests.bench --against CHECKOUT` measures that checkout's premblyd, and not this one twice."""

import shutil
from pathlib import Path

import pytest

from tests.bench import earlier, peers

pytestmark = pytest.mark.large  # it is about the bench alone


def test_the_daemon_that_is_compared_is_that_of_the_other_checkout(tmp_path: Path) -> None:
    """A daemon: what is asked is which premblyd a process imports, and that it can work on the
    database it gets. It refuses one of this checkout's, whose schema is another."""
    package = tmp_path / "premblyd"
    left_out = shutil.ignore_patterns("__pycache__")
    shutil.copytree(peers.ROOT / "premblyd", package, ignore=left_out)
    first = package / "__init__.py"
    first.write_text(first.read_text() + '\n__version__ = "before-it-was"\n')
    views = package / "model/views.py"  # of the schema, by which a database is known
    views.write_text(views.read_text().replace("CREATE VIEW", "CREATE  VIEW"))
    with earlier.of_checkout(tmp_path) as daemon:
        started = next(line for line in daemon.log_text().splitlines() if "daemon.started" in line)
    assert "before-it-was" in started
