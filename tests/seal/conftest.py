"""What is sealed is sealed on every engine: these tests run on each, as the store's."""

from collections.abc import Iterator

import pytest

from premblyd.databases import DatabaseAddress
from tests.store.conftest import place, server
from tests.support.sealing import VAULT
from tests.support.store import Store, store_at

__all__ = ["place", "server"]


@pytest.fixture
def sealed(place: DatabaseAddress) -> Iterator[Store]:
    """A store that seals by the data key KEY."""
    with store_at(place, VAULT) as store:
        yield store
