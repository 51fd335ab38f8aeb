"""What a test needs of the machine it runs on. Without that it is skipped.

With PREMBLYD_REQUIRE_ALL=1, as in .ci/run that installs all of it, such a skip is a failure. Only
a test that needs root is skipped all the same when a plain user runs it.
"""

import contextlib
import os
from collections.abc import Iterator

import pytest

REQUIRE_ALL = os.environ.get("PREMBLYD_REQUIRE_ALL") == "1"
NO_ROOT = "needs root"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason=NO_ROOT)


class UnavailableError(Exception):
    """This machine has not what a test needs. The text says what is missing."""


@contextlib.contextmanager
def needs_machine() -> Iterator[None]:
    """Skip the test at an UnavailableError."""
    try:
        yield
    except UnavailableError as error:
        pytest.skip(str(error))
