"""SQLite's own tests have its own store alone."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.store import Store


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with asyncio.Runner() as runner:
        store = Store(path, runner.get_loop())
        yield store
        store.close()
