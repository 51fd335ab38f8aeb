"""Which tests are left out by their marks, known before they are read."""

import re
from pathlib import Path

import pytest

GUARD = pytest.MonkeyPatch()  # what refuses to start a process, in a test without a mark for that
_OF_MODULE = re.compile(r"^pytestmark = (?:\[needs_\w+, )?pytest\.mark\.(\w+)\]?$", re.MULTILINE)


def leaves_out(config: pytest.Config, mark: str) -> bool:
    """Return whether this session's `-m` leaves out all that has `mark`."""
    asked: str = config.getoption("markexpr")
    asked = asked.replace("(promise or not process)", "")
    return " or " not in asked and re.search(rf"\bnot {mark}\b", asked) is not None


def leaves_out_module(config: pytest.Config, path: Path) -> bool:
    """Return whether all tests of a module are left out, by the one mark that it gives them,
    beside what they need."""
    if not path.name.startswith("test_") or path.suffix != ".py":
        return False
    marked = _OF_MODULE.search(path.read_text())
    return marked is not None and leaves_out(config, marked[1])
