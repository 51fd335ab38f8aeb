"""PostgreSQL's own tests have its own store alone."""

import asyncio
from collections.abc import Iterator

import pytest

from premblyd.features.postgresql.settings import Server
from tests.support.store import Store


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    with asyncio.Runner() as runner:
        yield runner.get_loop()


@pytest.fixture
def store(loop: asyncio.AbstractEventLoop, server: Server) -> Iterator[Store]:
    """An empty store on it, at work."""
    store = Store(server, loop)
    yield store
    store.close()
