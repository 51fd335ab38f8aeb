"""How long a campaign's short form may take: it judges itself by its own limits, and what ends it
from outside is only for one that hangs. On a busy machine a minute is soon over."""

from pathlib import Path

import pytest

TEST_TIMEOUT_S = 300


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(TEST_TIMEOUT_S))
