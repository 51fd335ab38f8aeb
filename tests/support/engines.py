"""Databases for tests of what is promised on every engine: a folder's conftest takes `place`, or
a module does. What is an engine's own is in that engine's folder."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from premblyd.ground.databases import DatabaseAddress
from tests.support import postgresql
from tests.support.database import ENGINES, file_in, prepared_file
from tests.support.needs import needs_machine
from tests.support.store import Store


@pytest.fixture(name="server")
def empty_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[DatabaseAddress]:
    """A prepared database on the session's server. Transactions on it may take a busy machine
    longer than a daemon waits."""
    monkeypatch.setattr("premblyd.features.postgresql.engine.DEADLINE_S", 30.0)
    with needs_machine():
        postgresql.of_session()
    with postgresql.empty_database() as server:
        yield server


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("sqlcipher", marks=[pytest.mark.large, pytest.mark.sqlite]),
        pytest.param("postgresql", marks=pytest.mark.postgresql),
    ],
    ids=ENGINES,
)
def place(request: pytest.FixtureRequest, path: Path) -> Any:
    """A prepared database of the engine that nobody has open."""
    if request.param == "sqlcipher":
        place = file_in(path.parent, is_encrypted=True)
        shutil.copy(prepared_file(is_encrypted=True), path)
        return place
    return path if request.param == "sqlite" else request.getfixturevalue("server")


@pytest.fixture
def hosts(store: Store) -> Iterator[list[Store]]:
    """Three stores on one database, which work at the same time: a, b and c are their workers.
    SQLite lets them, though it serves one daemon: so what holds there is the same."""
    others = [store.beside(name) for name in "abc"]
    yield others
    for other in others:
        other.close()
