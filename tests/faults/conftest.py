"""The short forms of the campaigns run apart, by `-m campaign`, save those within one process.

How long one may take: it judges itself by its own limits, and what ends it from outside is only for
one that hangs. On a busy machine a minute is soon over."""

from pathlib import Path

import pytest

TEST_TIMEOUT_S = 300
IN_ONE_PROCESS = ("test_clock.py", "test_doubt.py", "test_fuzz.py", "test_values.py")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(TEST_TIMEOUT_S))
            if item.path.name not in IN_ONE_PROCESS:
                item.add_marker(pytest.mark.campaign)
