"""What a test needs of the machine it runs on. Without that it is skipped.

With PREMBLYD_REQUIRE_ALL=1, as in .ci/run that installs all of it, such a skip is a failure. Only
a test that needs root is skipped all the same when a plain user runs it, and one that needs an
earlier version where the checkout has not the whole history.
"""

import contextlib
import os
import resource
from collections.abc import Iterator

import pytest

REQUIRE_ALL = os.environ.get("PREMBLYD_REQUIRE_ALL") == "1"
NO_ROOT = "needs root"
NO_HISTORY = "needs the whole git history"
OPEN_FILES = 8192  # both ends of a few thousand connections
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason=NO_ROOT)


def allow_open_files() -> None:
    """Let this process have OPEN_FILES files open, or as many as it may: a plain user's session
    often begins with 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, OPEN_FILES)), hard))


def needs_open_files(count: int) -> pytest.MarkDecorator:
    """Skip a test where a process may not have so many files open."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return pytest.mark.skipif(hard < count, reason=f"needs {count} open files (ulimit -Hn)")


class UnavailableError(Exception):
    """This machine has not what a test needs. The text says what is missing."""


@contextlib.contextmanager
def needs_machine() -> Iterator[None]:
    """Skip the test at an UnavailableError."""
    try:
        yield
    except UnavailableError as error:
        pytest.skip(str(error))
