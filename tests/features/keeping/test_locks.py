"""What removes or holds, and what begins or ends a waiting, has its lock before it looks. On SQLite
nobody else writes meanwhile: what is held here is that they ask for it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from premblyd.features.asking.awaited import lock_name
from premblyd.features.asking.settling import NewAnswer, add_answer
from premblyd.features.keeping import holds, removing
from premblyd.features.keeping.persons import Named
from premblyd.features.keeping.retention import Remover
from premblyd.features.keeping.settings import Retention
from premblyd.features.keeping.tables import Removed
from premblyd.prembly.payload import Outcome
from premblyd.record.operating import EVENTS, Operator
from premblyd.store.engine import Transaction
from premblyd.store.sqlite.transaction import SqliteTransaction
from tests.features.asking.questions import await_results
from tests.support.rows import for_each
from tests.support.store import NOW_MS, Store, new_event

PERSON = Named.user("user-1")
PERIODS = Retention.model_validate({"record": "30d"})
LOOKED = "a statement"


@pytest.fixture
def place(path: Path) -> Path:
    return path


@pytest.fixture(name="taken")
def note_locks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that are locked, and the statements beside them, in their order."""
    taken: list[str] = []
    execute = SqliteTransaction._execute

    def noting(own: SqliteTransaction, *given: Any) -> Any:
        taken.append(LOOKED)
        return execute(own, *given)

    monkeypatch.setattr(SqliteTransaction, "lock", lambda _, names: taken.extend(names))
    monkeypatch.setattr(SqliteTransaction, "_execute", noting)
    return taken


@for_each(
    "change",
    [
        holds.place(PERSON, actor="ada", now_ms=NOW_MS),
        holds.end(1, actor="ada", now_ms=NOW_MS),
        lambda each: Remover(retention=PERIODS, now_ms=NOW_MS).remove(each, Removed.RECORD, None),
        lambda each: removing.remove_eventless(each, 0, 0, PERIODS, NOW_MS),
        *Operator(actor="ada").add([1], "crm", 3, NOW_MS),
    ],
)
def test_who_holds_or_removes_has_the_lock_of_holds_before_all_else(
    store: Store, taken: list[str], change: Callable[[Transaction], Any]
) -> None:
    taken.clear()
    store.call(change)
    assert taken[0] == EVENTS
    assert LOOKED in taken


def test_what_begins_or_ends_a_waiting_has_the_locks_of_its_references(
    store: Store, taken: list[str]
) -> None:
    def locked() -> set[str]:
        names = {name for name in taken if name.startswith("awaited ")}
        taken.clear()
        return names

    def arrive(reference: str) -> None:
        event = new_event(reference.encode(), reference=reference, outcome=Outcome.PENDING)
        store.wait(store.inbox.add(event, []))

    await_results(store, 1)
    arrive("new")
    assert locked() == {lock_name("new")}
    answer = NewAnswer(webhook=new_event(reference="its-own"), deliveries=[], asked="new")
    store.call(lambda each: add_answer(each, answer))
    assert locked() == {lock_name("new"), lock_name("its-own")}
