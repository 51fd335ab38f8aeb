"""SQLite's own tests have a SQLite file alone."""

from pathlib import Path

import pytest


@pytest.fixture
def place(path: Path) -> Path:
    return path
