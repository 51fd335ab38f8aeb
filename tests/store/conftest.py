"""The store's tests are one suite over what it promises: each runs on every engine.

What is an engine's own is in that engine's folder.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.needs import needs_machine
from tests.support.store import PostgresqlStore, Store

ENGINES = {"sqlite": Store, "postgresql": PostgresqlStore}


@pytest.fixture(params=ENGINES)
def store(request: pytest.FixtureRequest, path: Path) -> Iterator[Store]:
    """An empty store of the engine, at work."""
    with asyncio.Runner() as runner:
        with needs_machine():
            store = ENGINES[request.param](path, runner.get_loop())
        yield store
        store.close()


@pytest.fixture
def hosts(store: Store) -> Iterator[list[Store]]:
    """Three stores on one database, which work at the same time: a, b and c are their workers.
    SQLite lets them, though it serves one daemon: so what holds there is the same."""
    others = [store.beside(name) for name in "abc"]
    yield others
    for other in others:
        other.close()
