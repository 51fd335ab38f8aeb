"""A test that needs what this machine has not is skipped, and says what."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.pages import ROOT

pytestmark = pytest.mark.process

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


SESSIONS = """
import sys, pytest
from tests import conftest
pytest.main(sys.argv[1:])
conftest.REQUIRE_ALL = False
pytest.main(sys.argv[1:])
"""


def test_what_is_absent_is_a_skip_or_where_all_is_required_a_failure(tmp_path: Path) -> None:
    """In a process: it is about sessions of pytest."""
    file = tmp_path / "test_absent.py"
    file.write_text(TEST)
    env = os.environ | {"PREMBLYD_REQUIRE_ALL": "1", "PYTEST_ADDOPTS": ""}
    env.pop("PREMBLYD_SKIPPED", None)  # it is no test of ours that is skipped there
    options = f"-p tests.conftest -n 0 -rs -W ignore -c {os.devnull} --rootdir={tmp_path}"
    command = [sys.executable, "-c", SESSIONS, *options.split(), str(file)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    required, with_all, skipped = done.stdout.partition(" 1 failed, 1 skipped, 1 error in ")
    assert with_all, done.stdout + done.stderr
    assert " 3 skipped in " in skipped
    for session in (required, skipped):
        assert all(reason in session for reason in ("needs a server", "needs a tool"))
