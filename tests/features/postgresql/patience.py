"""A store that waits for a server for a moment only."""

import contextlib
from collections.abc import Iterator

import pytest

from premblyd.features.postgresql.engine import PostgresqlEngine
from tests.support.store import Store


@contextlib.contextmanager
def impatient(store: Store) -> Iterator[None]:
    """Meanwhile a transaction on a server may take a moment only. Let nobody answer it then: on a
    busy machine any other may take longer."""
    assert isinstance(store.engine, PostgresqlEngine)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(store.engine._deadline, "limit_s", 0.4)
        yield
