"""What a test needs of the machine it runs on. Without that it is skipped.

With PREMBLYD_REQUIRE_ALL=1, as in .ci/run that installs all of it, such a skip is a failure: all
but that of a test which needs another user than the one who runs it, as nobody can be both.
"""

import contextlib
import os
from collections.abc import Iterator

import pytest

REQUIRE_ALL = os.environ.get("PREMBLYD_REQUIRE_ALL") == "1"
IS_ROOT = os.geteuid() == 0
# Reasons of skips that are none of the machine's faults.
ANOTHER_USER = "is run as another user: "
needs_root = pytest.mark.skipif(not IS_ROOT, reason=f"{ANOTHER_USER}needs root")
needs_plain_user = pytest.mark.skipif(IS_ROOT, reason=f"{ANOTHER_USER}root may do everything")


class UnavailableError(Exception):
    """This machine has not what a test needs. The text says what is missing."""


@contextlib.contextmanager
def needs_machine() -> Iterator[None]:
    """Skip the test at an UnavailableError."""
    try:
        yield
    except UnavailableError as error:
        pytest.skip(str(error))
