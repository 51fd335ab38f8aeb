"""Several hosts on one database: what holds on a server is tried on every engine."""

from collections.abc import Iterator

import pytest

from premblyd.ground.databases import DatabaseAddress
from tests.support.engines import place
from tests.support.store import Store, store_at

__all__ = ["place"]


@pytest.fixture
def store(place: DatabaseAddress) -> Iterator[Store]:
    with store_at(place) as store:
        yield store
