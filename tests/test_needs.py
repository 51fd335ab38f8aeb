"""A test that needs what this machine has not is skipped, and says what."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.pages import ROOT

TEST = """
import pytest
from tests.support.needs import NO_HISTORY, UnavailableError

@pytest.fixture
def server():
    raise UnavailableError("needs a server")

def test_by_a_fixture(server): ...

def test_by_itself():
    raise UnavailableError("needs a tool")

def test_of_an_earlier_version():
    pytest.skip(NO_HISTORY)
"""


@pytest.mark.parametrize(
    ("require_all", "outcome"), [("", "3 skipped"), ("1", "1 failed, 1 skipped, 1 error")]
)
def test_what_is_absent_is_a_skip_or_where_all_is_required_a_failure(
    tmp_path: Path, require_all: str, outcome: str
) -> None:
    """In a process: it is about a session of pytest."""
    file = tmp_path / "test_absent.py"
    file.write_text(TEST)
    options = f"-p tests.conftest -n 0 -rs -W ignore -c {os.devnull} --rootdir={tmp_path}"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options.split(), file],
        cwd=ROOT,
        env=os.environ | {"PREMBLYD_REQUIRE_ALL": require_all, "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
    )
    assert f" {outcome} in " in done.stdout, done.stdout + done.stderr
    assert all(reason in done.stdout for reason in ("needs a server", "needs a tool"))
