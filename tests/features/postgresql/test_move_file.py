"""What a move makes sure of, with a stand-in for the server that it fills."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest
from peewee import Model

from premblyd.features.postgresql import moving as on_server
from premblyd.features.postgresql.moving import MoveError, Row
from premblyd.features.postgresql.settings import Server
from premblyd.ground.errors import TryAgainError
from premblyd.store.tables import Event
from tests.support.database import by_hand
from tests.support.moving import insert, move_record

SERVER = Server("postgresql:///nowhere")


class Filled:
    """Stands for the server's database: it keeps what it is given."""

    def __init__(self) -> None:
        self.kept: dict[type[Model], list[Row]] = {}
        self.is_finished = False

    def has_rows(self, table: type[Model]) -> bool:
        return False

    def begin(self) -> None: ...

    def put(self, table: type[Model], rows: Iterable[Row]) -> None:
        self.kept[table] = list(rows)

    def rows(self, table: type[Model]) -> Iterator[Row]:
        return iter(self.kept[table])

    def finish(self, last_numbers: Mapping[str, int]) -> None:
        self.is_finished = True


@pytest.fixture
def filled(monkeypatch: pytest.MonkeyPatch) -> Filled:
    filled = Filled()
    monkeypatch.setattr(on_server, "opened_target", lambda *_: contextlib.nullcontext(filled))
    return filled


def test_who_writes_to_the_file_while_it_is_moved_is_noticed(path: Path, filled: Filled) -> None:
    def watch(what: str, done: int, _: int | None) -> None:
        if what == "verifying":
            by_hand(path, f"UPDATE record SET alive_at_ms = {done}")

    with pytest.raises(TryAgainError, match="Nothing was moved"):
        move_record(path, SERVER, watch)
    assert not filled.is_finished
    move_record(path, SERVER)
    assert filled.is_finished


@pytest.mark.parametrize("came", [[], ["another"], ["the same", "the same"]])
def test_a_table_that_came_over_otherwise_is_named(
    path: Path, filled: Filled, came: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    insert(path, "event", id=7, detail="the same")
    put = filled.put

    def otherwise(table: type[Model], rows: Iterable[Row]) -> None:
        put(table, rows)
        if table is Event:
            (row,) = filled.kept[table]
            texts = [[each if value == "the same" else value for value in row] for each in came]
            filled.kept[table] = [tuple(text) for text in texts]

    monkeypatch.setattr(filled, "put", otherwise)
    with pytest.raises(MoveError, match=r"The copy of event differs from the original\."):
        move_record(path, SERVER)
    assert not filled.is_finished
