"""Which tests are left out by their marks, known before they are read."""

import functools
import re
from pathlib import Path

import pytest

_OF_MODULE = re.compile(r"^pytestmark = (?:\[needs_\w+, )?pytest\.mark\.(\w+)\]?$", re.MULTILINE)
# Of a module that starts processes: none else does, but for the session's server and record.
_STARTS_PROCESSES = re.compile(
    r"^import subprocess"
    r"|^from tests\.(faults|systemd|support\.(chromium|console|daemon|forking|freezing|hosts))\b"
    r"|^from tests\.support\.(pooler|upgrades|workers)\b"
    r"|^from tests\.support\.commands import .*\b(command|on_terminal|run_process)\b"
    r"|^from premblyd\.run\.(pool|shell|spawn|worker)"
    r"|\bPremblyd\b",
    re.MULTILINE,
)


@functools.cache
def starts_processes(path: Path) -> bool:
    """Return whether the tests of a module are marked `process`."""
    return _STARTS_PROCESSES.search(path.read_text()) is not None


def leaves_out(config: pytest.Config, mark: str) -> bool:
    """Return whether this session's `-m` leaves out all that has `mark`."""
    asked: str = config.getoption("markexpr")
    return " or " not in asked and re.search(rf"\bnot {mark}\b", asked) is not None


def leaves_out_module(config: pytest.Config, path: Path) -> bool:
    """Return whether all tests of a module are left out, by the one mark that it gives them,
    beside what they need."""
    if not path.name.startswith("test_") or path.suffix != ".py":
        return False
    if leaves_out(config, "process") and starts_processes(path):
        return True
    marked = _OF_MODULE.search(path.read_text())
    return marked is not None and leaves_out(config, marked[1])
