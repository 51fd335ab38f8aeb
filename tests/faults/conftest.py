"""The short forms of the campaigns run apart, by `-m campaign`, save those of pure functions."""

from pathlib import Path

import pytest

from tests.support.marks import leaves_out

FOLDER = Path(__file__).parent
PURE = ("test_fuzz.py",)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Don't read what is left out: see the conftest of all tests."""
    return (_is_campaign(collection_path) and leaves_out(config, "campaign")) or None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == FOLDER and _is_campaign(item.path):
            item.add_marker(pytest.mark.campaign)


def _is_campaign(path: Path) -> bool:
    return path.suffix == ".py" and path.name not in PURE
